"""A recipe is named by its content: where models lie and how a file is ordered cannot be seen in its hash."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automerge.errors import ConfigError
from automerge.recipe import Group, ModelRef, Recipe, TokenRule, Vocabulary, make_recipe, parse_recipe, read_recipe

BASE = ModelRef("base", "/models/base", "0" * 64)
MATH = ModelRef("math", "/models/math", "1" * 64)
CODE = ModelRef("code", "/models/code", "2" * 64)


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "method": "dare_linear",
        "base": BASE,
        "sources": (CODE, MATH),
        "groups": (
            Group((0, 2), "all", {"weight": {"code": 0.25, "math": 1.0}, "lambda": 1.0}),
            Group((2, 4), "all", {"weight": {"code": 0.5, "math": 0.75}, "lambda": 1.0}),
        ),
        "options": {"rescale": True, "normalize": False},
        "dtype": "bfloat16",
        "seed": 7,
    }
    return make_recipe(**plain | changes)


# --- the hash ----------------------------------------------------------------------------------------------------


def test_the_hash_is_the_published_one() -> None:
    """A change of format or order would orphan every stored study: it must be meant, and FORMAT raised."""
    assert recipe().hash == GOLDEN


def test_a_rule_that_names_a_model_alone_is_written_as_its_name() -> None:
    """So a recipe of before there were others keeps its hash."""
    rules = {"a": TokenRule("math"), "b": TokenRule("math", "b"), "c": TokenRule("code", "a"), "d": TokenRule(None)}
    rules |= {"e": TokenRule("base", 7, force=False)}
    made = recipe(vocabulary=Vocabulary(rules, 8))
    assert made.canonical()["vocabulary"] == {
        "tokens": {
            "a": "math",
            "b": "math",
            "c": {"model": "code", "token": "a", "force": True},
            "d": {"model": None, "token": "", "force": True},
            "e": {"model": "base", "token": 7, "force": False},
        },
        "pad_to_multiple_of": 8,
    }
    assert parse_recipe(made.to_json()) == made and hash(rules["c"])
    assert recipe(vocabulary=Vocabulary({"a": TokenRule("math")})).hash == GOLDEN_RULE


GOLDEN_RULE = "dd1afdd451fb108ca46a2c044fa1728838ca5e03911eaead74d565ae00e20582"
GOLDEN = "45727d3e3d0e71f9efc5f7e8b8f2edaa5e012357dec3e6c952eeb72463064bd8"


def test_the_hash_does_not_see_paths() -> None:
    moved = recipe(base=dataclasses.replace(BASE, path="/else"), sources=(dataclasses.replace(MATH, path=""), CODE))
    assert moved.hash == recipe().hash
    assert moved != recipe()


def test_the_hash_does_not_see_order() -> None:
    first, second = recipe().groups
    turned = recipe(
        sources=(MATH, CODE),
        groups=(
            second,
            Group((0, 2), "all", {"lambda": 1, "weight": {"math": 1, "code": 0.25}}),
        ),
        options={"normalize": False, "rescale": True},
    )
    assert turned == recipe()
    assert turned.hash == recipe().hash
    assert turned.groups[0] == first


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "task_arithmetic"},
        {"base": ModelRef("base", "", "3" * 64)},
        {"base": ModelRef("root", "", "0" * 64)},
        {"sources": (CODE, ModelRef("math", "", "3" * 64))},
        {"sources": (CODE,)},
        {"groups": (Group((0, 2), "all", {"weight": {"code": 0.25, "math": 1.0}, "lambda": 1.0}),)},
        {"groups": (Group((0, 4), "all", {"weight": {"code": 0.25, "math": 1.0000000000000002}}),)},
        {"groups": (Group((0, 4), "mlp", {"weight": {"code": 0.25, "math": 1.0}}),)},
        {"options": {"rescale": False, "normalize": False}},
        {"options": {"rescale": True}},
        {"dtype": "float32"},
        {"seed": 8},
        {"tokenizer": "math"},
    ],
)
def test_the_hash_sees_everything_else(changes: dict[str, Any]) -> None:
    assert recipe(**changes).hash != recipe().hash


# --- JSON --------------------------------------------------------------------------------------------------------

NAMES = st.text("abcdefgh._-é", min_size=1, max_size=6).filter(lambda name: name != "base")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    groups = tuple(
        Group(
            (start, start + draw(st.integers(1, 3))),
            draw(st.sampled_from(("attention", "mlp", "rest", "all"))),
            {"weight": {name: draw(NUMBERS) for name in names}, "lambda": draw(NUMBERS)},
        )
        for start in range(draw(st.integers(1, 3)))
    )
    return make_recipe(
        method=draw(st.sampled_from(("linear", "ties"))),
        base=BASE,
        sources=tuple(ModelRef(name, f"/m/{name}", "a" * 64) for name in names),
        groups=groups,
        options=draw(st.dictionaries(st.sampled_from(("normalize", "rescale")), st.booleans())),
        dtype="float16",
        seed=draw(st.integers(0, 2**63)),
        tokenizer=draw(st.sampled_from(("base", *names))),
    )


@given(recipes())
@settings(deadline=None)
def test_json_round_trip(made: Recipe) -> None:
    read = parse_recipe(made.to_json())
    assert read == made
    assert read.hash == made.hash
    assert parse_recipe(json.dumps(made.canonical())).hash == made.hash  # without paths


def test_read_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(recipe().to_json(), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.json") == recipe()


def test_a_group_has_a_name() -> None:
    assert [group.name for group in recipe().groups] == ["layers.0-2.all", "layers.2-4.all"]


# --- what is refused ---------------------------------------------------------------------------------------------


def edited(**changes: Any) -> str:
    return json.dumps(recipe().canonical() | changes)


def rule(entry: object) -> str:
    return edited(vocabulary={"tokens": {"a": entry}, "pad_to_multiple_of": 0})


def without(key: str) -> str:
    data = recipe().canonical()
    del data[key]
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a recipe: Expecting value"),
        ("{", "not a recipe: Expecting property name"),
        ("[]", "not a recipe: list indices must be integers"),
        ("null", "not a recipe: 'NoneType' object"),
        ("{}", "not a recipe: missing key 'format'"),
        (edited(format=2), "expected recipe format 1, got 2"),
        *[(without(key), f"not a recipe: missing key '{key}'") for key in recipe().canonical()],
        (edited(base={"name": "base"}), "not a recipe: missing key 'digest'"),
        (edited(sources=3), "not a recipe: 'int' object is not iterable"),
        (edited(sources=["x"]), "not a recipe: string indices must be integers"),
        (edited(groups=[{"layers": [0], "modules": "all", "values": {}}]), "not a recipe: list index out of range"),
        (edited(groups=[{"layers": [0, 1], "modules": "all", "values": 1}]), "not a recipe: 'int' object has no"),
        (edited(groups=[{"layers": [0, 1], "modules": "all", "values": {"weight": None}}]), "not a recipe: float()"),
        (edited(groups=[{"layers": ["a", 1], "modules": "all", "values": {}}]), "not a recipe: invalid literal"),
        (edited(options={"rescale": 0}), "not a recipe: options: rescale: expected true, false or a word, got 0"),
        (edited(options=[]), "not a recipe: 'list' object has no attribute 'items'"),
        (edited(seed="x"), "not a recipe: invalid literal for int()"),
        (edited(tokenizer="none"), "tokenizer: expected base, union or a source's name, got 'none'"),
        (rule("gone"), "the token 'a' is to come from 'gone', which is not a model in this recipe"),
        (rule({"model": None, "token": "b", "force": True}), "the token 'a' is to be zeros, and yet the row of 'b'"),
        (rule({"model": "math", "force": True}), "not a recipe: vocabulary: expected a model's name, or model, token"),
        (rule({"model": "math", "token": 1.5, "force": True}), "not a recipe: vocabulary: expected a name or null"),
        (rule({"model": "math", "token": True, "force": True}), "not a recipe: vocabulary: expected a token or the nu"),
        (edited(sources=[{"name": "base", "digest": ""}]), "each model needs a name of its own; doubled: base"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(text, where="recipe.json")
    assert message in str(caught.value)
    if caught.value.message.startswith("not a recipe"):
        assert (caught.value.where, caught.value.hint) == ("recipe.json", "Expected JSON as in recipe.json.")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the recipe: No such file"):
        read_recipe(tmp_path / "recipe.json")
    (tmp_path / "recipe.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(ConfigError, match="not a recipe: expected UTF-8 text"):
        read_recipe(tmp_path / "recipe.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite(number: float) -> None:
    for values in ({"lambda": number}, {"weight": {"code": 1.0, "math": number}}):
        (parameter,) = values
        with pytest.raises(ConfigError, match=f"parameter '{parameter}' is not finite") as caught:
            recipe(groups=(Group((0, 4), "mlp", values),))
        assert caught.value.where == "layers.0-4.mlp"
    text = json.dumps(
        recipe().canonical() | {"groups": [{"layers": [0, 4], "modules": "all", "values": {"x": number}}]}
    )
    with pytest.raises(ConfigError, match="parameter 'x' is not finite"):
        parse_recipe(text)


def test_doubled_names() -> None:
    with pytest.raises(ConfigError, match="doubled: code, math"):
        recipe(sources=(MATH, CODE, MATH, CODE))
