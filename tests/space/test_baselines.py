"""The merges anyone would try first, and which of them a search space can learn from."""

from typing import Any

import pytest
import torch

from automerge.config import AVERAGES
from automerge.errors import ConfigError
from automerge.merge import Models, get_method, method_names
from automerge.space.baselines import Baseline, baselines
from automerge.space.space import SearchSpace
from tests.merge.helpers import merged, recipe_of
from tests.space.helpers import space_of

WIDE: dict[str, dict[str, Any]] = {  # everything a baseline could ask for lies inside
    "linear": {"weight": [0, 1]},
    "task_arithmetic": {"weight": [0, 1], "lambda": [0.5, 1.5]},
    "ties": {"weight": [0, 1], "density": [0.1, 1]},
    "dare_linear": {"weight": [0, 1], "drop": [0, 0.9]},
    "dare_ties": {"weight": [0, 1], "drop": [0, 0.9]},
}
ALONE = {"code", "math", "writing"}
POINTS = {
    "linear": ALONE | {"plain_average"},
    "task_arithmetic": {"base", "plain_average", "task_arithmetic"} | ALONE,
    "ties": {"base"} | ALONE,
    "dare_linear": {"base", "plain_average", "task_arithmetic", "dare_0.5", "dare_0.9"} | ALONE,
    "dare_ties": {"base"} | ALONE,
}


def found(space: SearchSpace) -> dict[str, Baseline]:
    return {baseline.name: baseline for baseline in baselines(space)}


def points(space: SearchSpace) -> set[str]:
    return {baseline.name for baseline in baselines(space) if baseline.params is not None}


def weights(models: Models, name: str) -> dict[str, torch.Tensor]:
    """A model's own tensors, fp32: the base's, or a source's."""
    taken = {}
    for tensor, shape in models.shapes.items():
        base = models.base.mapped(tensor).float()
        source = models.base if name == "base" else models.sources[name]
        stored = source.stored(tensor)
        if stored is not None:
            taken[tensor] = stored.float().clone()
        else:
            taken[tensor] = base + source.whole_delta(tensor) if source.changes(tensor) else base.clone()
        assert tuple(taken[tensor].shape) == shape
    return taken


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", sorted(set(method_names()) - set(WIDE)))
def test_no_baseline_is_a_point_of_the_other_methods(family: Models, method: str) -> None:
    declared = get_method(method)
    if not declared.parameters:
        return  # nothing to search
    ranges = {parameter.name: list(parameter.suggested) for parameter in declared.parameters}
    if declared.sources[1] is not None:
        with pytest.raises(ConfigError, match=f"{method} takes .*source.*, got 3"):
            space_of(family, method, parameters=ranges)
    else:
        assert points(space_of(family, method, parameters=ranges)) == set()


@pytest.mark.parametrize("method", sorted(WIDE))
def test_names_and_order(family: Models, method: str) -> None:
    names = [baseline.name for baseline in baselines(space_of(family, method, parameters=WIDE[method]))]
    assert names == ["base", "code", "math", "writing", *AVERAGES]


@pytest.mark.parametrize("method", sorted(WIDE))
@pytest.mark.parametrize("groups", ["whole", "layers"])
def test_which_are_points_of_the_space(family: Models, method: str, groups: str) -> None:
    assert points(space_of(family, method, parameters=WIDE[method], groups=groups)) == POINTS[method]


@pytest.mark.parametrize("method", sorted(WIDE))
def test_a_point_is_the_recipe_it_stands_for(family: Models, method: str) -> None:
    space = space_of(family, method, parameters=WIDE[method])
    for baseline in baselines(space):
        if baseline.params is None:
            assert baseline.recipe.method in ("linear", "task_arithmetic", "dare_linear")
        else:
            assert baseline.recipe == space.recipe(baseline.params)
            assert all(space.distributions[key]._contains(value) for key, value in baseline.params.items())


@pytest.mark.parametrize("method", sorted(WIDE))
def test_a_point_computes_what_the_baseline_is(family: Models, method: str) -> None:
    """Whether it lies inside the space or not, a baseline is the same merge, to a rounding of fp32."""
    inside = found(space_of(family, method, parameters=WIDE[method]))
    outside = found(space_of(family, "linear", parameters={"weight": [2, 3]}))
    assert all(baseline.params is None for baseline in outside.values())
    for name in POINTS[method]:
        own, _ = merged(inside[name].recipe, family)
        theirs, _ = merged(outside[name].recipe, family)
        for tensor, value in own.items():
            torch.testing.assert_close(value, theirs[tensor], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"parameters": {"weight": [0.1, 1], "drop": [0, 0.9]}}, {"base"} | ALONE),
        ({"parameters": {"weight": [0, 0.9], "drop": [0, 0.9]}}, {"task_arithmetic", "dare_0.5", "dare_0.9"} | ALONE),
        ({"parameters": {"weight": [0, 1], "drop": [0, 0.8]}}, {"dare_0.9"}),
        ({"parameters": {"weight": [0, 1], "drop": 0.5}}, POINTS["dare_linear"] - {"dare_0.5"}),
        ({"parameters": {"weight": [0, 1], "drop": [0, 0.9], "lambda": 0.5}}, POINTS["dare_linear"]),
        ({"parameters": {"weight": [0, 1], "drop": [0, 0.9]}, "options": {"rescale": False}}, POINTS["dare_linear"]),
        ({"parameters": {"weight": [0, 1], "drop": [0, 0.9]}, "options": {"rescale": True}}, set()),
    ],
)
def test_what_lies_outside(family: Models, changes: dict[str, Any], lost: set[str]) -> None:
    space = space_of(family, "dare_linear", **changes)
    assert points(space) == POINTS["dare_linear"] - lost
    assert len(baselines(space)) == 8


def test_ties_with_a_density_that_trims_has_the_base_only(family: Models) -> None:
    space = space_of(family, "ties", parameters={"weight": [0, 1], "density": [0.1, 0.5]})
    assert points(space) == set()


# --- bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(WIDE))
def test_the_base_is_the_base_to_the_bit(family: Models, method: str) -> None:
    own, _ = merged(found(space_of(family, method, parameters=WIDE[method]))["base"].recipe, family)
    assert equal(own, weights(family, "base"))


@pytest.mark.parametrize("name", sorted(ALONE))
def test_a_source_alone_is_the_source_to_the_bit(family: Models, name: str) -> None:
    """As a point of a space of task vectors it is θ + (x − θ), which fp32 rounds: see the next test."""
    for space in (space_of(family, "linear"), space_of(family, parameters={"weight": [2, 3]})):
        own, _ = merged(found(space)[name].recipe, family)
        assert equal(own, weights(family, name))


@pytest.mark.parametrize("method", sorted(WIDE))
@pytest.mark.parametrize("name", ["code", "math"])
def test_in_bfloat16_it_is_so_for_every_method(talkative: Models, method: str, name: str) -> None:
    space = space_of(talkative, method, parameters=WIDE[method], tokenizer=name)
    baseline = found(space)[name]
    assert baseline.params is not None and baseline.recipe.dtype == "bfloat16"
    own, _ = merged(baseline.recipe, talkative)
    assert equal(own, {tensor: value.bfloat16() for tensor, value in weights(talkative, name).items()})


def test_the_plain_average_is_the_mean(family: Models) -> None:
    own, _ = merged(found(space_of(family))["plain_average"].recipe, family)
    models = [weights(family, name) for name in sorted(ALONE)]
    for tensor, value in own.items():
        mean = torch.stack([model[tensor].double() for model in models]).mean(0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=1e-7)


def test_task_arithmetic_adds_every_delta(family: Models) -> None:
    own, _ = merged(found(space_of(family))["task_arithmetic"].recipe, family)
    base, models = weights(family, "base"), [weights(family, name) for name in sorted(ALONE)]
    for tensor, value in own.items():
        wanted = base[tensor].double() + sum(model[tensor].double() - base[tensor].double() for model in models)
        torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("drop", [0.5, 0.9])
def test_dare_drops_as_much_as_its_name_says(family: Models, drop: float) -> None:
    recipe = found(space_of(family, parameters={"weight": [2, 3]}))[f"dare_{drop}"].recipe
    assert recipe == recipe_of(
        family,
        "dare_linear",
        {"weight": dict.fromkeys(ALONE, 1.0), "drop": dict.fromkeys(ALONE, drop)},
        options=get_method("dare_linear").option_values({}),
    )


# --- whose chat template -----------------------------------------------------------------------------------------


def test_each_model_is_asked_in_its_own_template(talkative: Models) -> None:
    """A merge that takes math's template must not make the base, or code, be asked in it."""
    taken = found(space_of(talkative, parameters=WIDE["dare_linear"], tokenizer="math"))
    assert {name: baseline.recipe.tokenizer for name, baseline in taken.items()} == {
        "base": "base",
        "code": "code",
        **dict.fromkeys(["math", *AVERAGES], "math"),
    }
    assert taken["base"].params is None and taken["code"].params is None
    assert taken["math"].params is not None


def test_a_tokenizer_of_the_same_files_is_the_same(talkative: Models) -> None:
    taken = found(space_of(talkative, parameters=WIDE["dare_linear"], tokenizer="base"))
    assert taken["code"].params is not None  # code's files are the base's
    assert taken["math"].params is None and taken["math"].recipe.tokenizer == "math"
