"""Recipes that make no sense to their method, each with its message; and the registry behind it."""

import dataclasses

import pytest

from automerge.errors import AutomergeError, ConfigError, MergeError
from automerge.merge import check_recipe, get_method, method_names, registry
from automerge.recipe import Group, ModelRef, Recipe, make_recipe

BOTH = {"a": 1.0, "b": 1.0}


def recipe(method: str = "dare_linear", values: dict | None = None, **changes: object) -> Recipe:
    settings: dict = {
        "method": method,
        "base": ModelRef("base", "", "0"),
        "sources": (ModelRef("a", "", "1"), ModelRef("b", "", "2")),
        "groups": (Group((0, 2), "all", values or {}),),
        "options": {},
        "dtype": "bfloat16",
        "seed": 0,
        **changes,
    }
    return make_recipe(**settings)


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (recipe("dare_liner"), ConfigError, "no merge method 'dare_liner'\nDid you mean dare_linear"),
        (recipe(sources=()), ConfigError, "at least one source"),
        (recipe(dtype="int8"), ConfigError, "dtype: expected one of float32, bfloat16, float16, got 'int8'"),
        (recipe(options={"rescal": True}), ConfigError, "no option 'rescal'\nDid you mean rescale"),
        (recipe("task_arithmetic", options={"x": True}), ConfigError, "no option 'x'\nKnown: normalize"),
        (recipe(groups=()), ConfigError, "at least one group"),
        (recipe(groups=(Group((2, 2), "all", {}),)), ConfigError, "expected 0 ≤ start < stop, got 2 and 2"),
        (recipe(groups=(Group((0, 2), "heads", {}),)), ConfigError, "no module kind 'heads'"),
        (recipe(values={"wieght": BOTH}), ConfigError, "no parameter 'wieght'\nDid you mean weight"),
        (recipe(values={"density": BOTH}), ConfigError, "dare_linear has no parameter 'density'"),
        (recipe(values={"weight": 1.0}), ConfigError, "weight: expected one number per source, got 1.0"),
        (recipe(values={"weight": {"a": 1.0}}), ConfigError, "weight: no value for b"),
        (recipe(values={"weight": {**BOTH, "c": 1.0}}), ConfigError, "weight: there is no source 'c'"),
        (recipe(values={"lambda": BOTH}), ConfigError, "lambda: expected one number, got one per source"),
        (recipe(values={"drop": {"a": 1.0, "b": 0.0}}), ConfigError, r"drop of a: expected [0, 1), got 1"),
        (recipe(values={"drop": {"a": -0.1, "b": 0.0}}), ConfigError, r"drop of a: expected [0, 1), got -0.1"),
        (recipe("ties", {"density": {"a": 1.1, "b": 0.0}}), ConfigError, r"density of a: expected [0, 1], got 1.1"),
        (recipe(values={"weight": {"a": 1e4, "b": 0.0}}), ConfigError, "expected [-1000, 1000], got 10000"),
        (
            recipe("linear", {"weight": {"a": 1.0, "b": -1.0}}),
            MergeError,
            "the sum of the weights is to be divided by, and is 0",
        ),
    ],
)
def test_bad_recipes(bad: Recipe, kind: type[AutomergeError], message: str) -> None:
    with pytest.raises(kind) as raised:
        check_recipe(bad)
    assert message in str(raised.value)


def test_good_recipes() -> None:
    for name in method_names():
        if get_method(name).sources[1] in (None, 2):
            check_recipe(recipe(name))
        else:
            with pytest.raises(ConfigError, match=f"sources: {name} takes 1 source, got 2"):
                check_recipe(recipe(name))
    check_recipe(recipe("linear", {"weight": {"a": 1.0, "b": -1.0}}, options={"normalize": False}))
    check_recipe(recipe(values={"weight": BOTH, "drop": {"a": 0.999, "b": 0.0}, "lambda": -1.0}))


def test_the_registry() -> None:
    assert len(method_names()) == 22
    for name in method_names():
        method = get_method(name)
        assert method.paper.startswith(("arXiv:", "https://"))
        for parameter in method.parameters:
            assert parameter.allows(parameter.default)
            assert all(parameter.allows(end) for end in parameter.suggested)


def test_the_registry_is_frozen_and_refuses_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    ties = get_method("ties")
    with pytest.raises(ValueError, match="frozen"):
        registry.register(dataclasses.replace(ties, name="new"))
    monkeypatch.setattr(registry, "_frozen", False)
    with pytest.raises(ValueError, match="there is a method ties already"):
        registry.register(ties)
