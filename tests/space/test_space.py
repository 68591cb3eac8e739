"""From a search config to Optuna's distributions, and from a point to its recipe."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution

from automerge.errors import ConfigError
from automerge.merge import Merge, Models, get_method
from automerge.merge.layout import group_of
from automerge.merge.registry import Method
from automerge.recipe import Group
from automerge.space.baselines import baselines
from automerge.space.space import SearchSpace
from tests.space.helpers import space_of

SOURCES = ("code", "math", "writing")


def the_method(space: SearchSpace) -> Method:
    (method,) = space.methods.values()
    return method


def whole(value: float) -> dict[str, float]:
    return dict.fromkeys(SOURCES, value)


# --- distributions -----------------------------------------------------------------------------------------------


def test_one_name_a_varied_number(family: Models) -> None:
    space = space_of(family, parameters={"weight": [0, 1.2], "drop": {"value": 0.5}, "lambda": [0.5, 1.5]})
    assert space.distributions == {
        "weight.code": FloatDistribution(0.0, 1.2),
        "weight.math": FloatDistribution(0.0, 1.2),
        "weight.writing": FloatDistribution(0.0, 1.2),
        "lambda": FloatDistribution(0.5, 1.5),
    }


def test_groups_and_modules_multiply_the_names(family: Models) -> None:
    space = space_of(family, groups="layers", modules="split", parameters={"weight": {"sources": {"math": [0, 1]}}})
    assert list(space.distributions) == [
        f"weight.math.{layer}.{module}" for layer in ("0-1", "1-2") for module in ("attention", "mlp", "rest")
    ]


def test_a_parameters_own_groups_come_first(family: Models) -> None:
    weight = {"range": [0, 1], "groups": "whole", "modules": "together"}
    space = space_of(
        family,
        groups={"knots": 2},
        modules="split",
        parameters={"weight": weight, "drop": {"sources": {"math": [0, 0.5]}, "modules": "together"}},
    )
    knots = ["drop.math.knot0", "drop.math.knot1"]
    assert list(space.distributions) == ["weight.code", "weight.math", "weight.writing", *knots]


def test_exceptions_by_source(family: Models) -> None:
    weight = {"range": [0, 1], "sources": {"math": [0.5, 2], "code": 0.25}}
    space = space_of(family, parameters={"weight": weight})
    assert space.distributions == {
        "weight.math": FloatDistribution(0.5, 2.0),
        "weight.writing": FloatDistribution(0.0, 1.0),
    }
    (group,) = space.recipe({"weight.math": 2.0, "weight.writing": 0.0}).groups
    assert group.values["weight"] == {"code": 0.25, "math": 2.0, "writing": 0.0}


def test_what_is_not_named_keeps_its_default(family: Models) -> None:
    space = space_of(family, parameters={"drop": {"sources": {"math": [0, 0.5]}}})
    (group,) = space.recipe({"drop.math": 0.25}).groups
    assert group.values == {"weight": whole(1.0), "drop": whole(0.0) | {"math": 0.25}, "lambda": 1.0}


# --- recipes -----------------------------------------------------------------------------------------------------


def test_the_recipe_says_everything(family: Models) -> None:
    space = space_of(family, seed=5, tokenizer="code", options={"rescale": False}, dtype="float16")
    recipe = space.recipe(dict.fromkeys(space.distributions, 0.5))
    assert (recipe.method, recipe.seed, recipe.tokenizer, recipe.dtype) == ("dare_linear", 5, "code", "float16")
    assert (recipe.base, recipe.sources) == (family.base_ref, family.source_refs)
    assert recipe.options == get_method("dare_linear").option_values({"rescale": False})
    (group,) = recipe.groups
    assert (group.layers, group.modules) == ((0, 2), "all")
    assert group.values == {"weight": whole(0.5), "drop": whole(0.0), "lambda": 1.0}
    assert space_of(family).recipe(dict.fromkeys(space.distributions, 0.5)).dtype == "float32"  # the base's


def test_several_methods_are_one_space(family: Models) -> None:
    given = {"weight": [0, 2], "density": [0.2, 0.8], "drop": {"sources": {"math": [0, 0.5]}}}
    space = space_of(family, ["dare_linear", "ties"], parameters=given, options={"rescale": False})
    assert space.distributions["method"] == CategoricalDistribution(["dare_linear", "ties"])
    point = space.middle() | {"drop.math": 0.25}
    assert set(point) == set(space.distributions)
    dare, ties = (space.recipe(point | {"method": name}) for name in ("dare_linear", "ties"))
    assert (dare.method, ties.method) == ("dare_linear", "ties")
    assert dare.groups[0].values == {"weight": whole(1.0), "drop": whole(0.0) | {"math": 0.25}, "lambda": 1.0}
    assert ties.groups[0].values == {"weight": whole(1.0), "density": whole(0.5), "lambda": 1.0}
    assert dare.options["rescale"] is ties.options["rescale"] is False
    other = space_of(family, ["dare_linear", "linear"], options={"rescale": False})
    made = {name: other.recipe(other.middle() | {"method": name}).options for name in ("dare_linear", "linear")}
    assert made["dare_linear"]["rescale"] is False and "rescale" not in made["linear"]


def test_baselines_are_points_of_the_method_that_computes_them(family: Models) -> None:
    given = {"weight": [0, 2], "density": [0.2, 0.8], "drop": [0, 0.9]}
    space = space_of(family, ["ties", "dare_linear"], parameters=given)
    found = {baseline.name: baseline for baseline in baselines(space)}
    assert found["dare_0.5"].params == dict.fromkeys(
        ["weight.code", "weight.math", "weight.writing"], 1.0
    ) | dict.fromkeys(["drop.code", "drop.math", "drop.writing"], 0.5) | dict.fromkeys(
        ["density.code", "density.math", "density.writing"], 0.8
    ) | {"method": "dare_linear"}
    for name in ("base", "math", "plain_average"):  # the density of ties is at most 0.8, and 1 would be wanted
        params = found[name].params
        assert params is not None and params["method"] == "dare_linear"


@pytest.mark.parametrize(
    ("methods", "parameters", "message"),
    [
        (["dare_linear", "slerp"], {"weight": [0, 1]}, "expected|takes|sources"),
        (["della", "ram"], {"epsilon": [0, 0.1]}, "another thing"),
        (["dare_linear", "ties"], {"densty": [0, 1]}, "no parameter 'densty'"),
        (["dare_linear", "ties"], {"weight": [0, 1], "drop": [0, 2]}, "expected"),
        (["ties", "ties"], {"weight": [0, 1]}, "each once"),
    ],
)
def test_methods_that_make_no_space(
    family: Models, methods: list[str], parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of(family, methods, parameters=parameters)


def test_lambda_is_shared_but_may_vary_by_layer(family: Models) -> None:
    space = space_of(family, groups="layers", parameters={"lambda": [0, 2]})
    assert list(space.distributions) == ["lambda.0-1", "lambda.1-2"]
    first, second = space.recipe({"lambda.0-1": 0.5, "lambda.1-2": 1.5}).groups
    assert (first.values["lambda"], second.values["lambda"]) == (0.5, 1.5)
    assert first.values["weight"] == second.values["weight"] == whole(1.0)


def test_the_fewest_groups(family: Models) -> None:
    def groups(params: dict[str, float]) -> list[tuple[tuple[int, int], str]]:
        return [(group.layers, group.modules) for group in space.recipe(params).groups]

    space = space_of(family, groups="layers", modules="split", parameters={"weight": {"sources": {"math": [0, 1]}}})
    same = dict.fromkeys(space.distributions, 0.5)
    assert groups(same) == [((0, 2), "all")]
    assert groups(same | {"weight.math.0-1.mlp": 0.75}) == [
        ((0, 1), "attention"),
        ((0, 1), "mlp"),
        ((0, 1), "rest"),
        ((1, 2), "all"),
    ]
    both = same | {"weight.math.0-1.mlp": 0.75, "weight.math.1-2.mlp": 0.75}
    assert groups(both) == [((0, 2), "attention"), ((0, 2), "mlp"), ((0, 2), "rest")]


SHAPES = st.sampled_from(["whole", "layers", {"blocks": 1}, {"blocks": 2}, {"knots": 2}])
MODULES = st.sampled_from(["together", "split"])


@given(SHAPES, MODULES, SHAPES, MODULES, st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_tensor_gets_exactly_the_values_of_its_place(
    family: Models, weights: Any, weight_modules: str, drops: Any, drop_modules: str, data: st.DataObject
) -> None:
    parameters = {
        "weight": {"range": [-1, 1], "groups": weights, "modules": weight_modules},
        "drop": {"range": [0, 0.9], "groups": drops, "modules": drop_modules},
    }
    space = space_of(family, parameters=parameters)
    few = st.sampled_from((0.0, 0.25, 0.5))
    params = {name: data.draw(few) for name in space.distributions}
    recipe = space.recipe(params)
    Merge(recipe, family)  # refuses what does not fit the models
    for axis in space.axes:
        if axis.parameter == "lambda":
            continue
        value = axis.grid.spread({label: params[axis.name(label)] for label in axis.grid.labels()})
        for layer in range(2):
            for module, part in (
                ("attention", "self_attn.q_proj"),
                ("mlp", "mlp.up_proj"),
                ("rest", "input_layernorm"),
            ):
                group = group_of(recipe, 2, f"model.layers.{layer}.{part}.weight")
                given_values = group.values[axis.parameter]
                assert isinstance(given_values, dict)
                assert given_values[axis.source] == value(layer, module)


# --- points with one value everywhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", ["whole", "layers", {"blocks": 2}, {"knots": 2}])
def test_uniform_inside(family: Models, groups: Any) -> None:
    space = space_of(family, groups=groups, modules="split", parameters={"weight": [0, 1], "drop": [0, 0.9]})
    values = {"weight": whole(0.0) | {"math": 1.0}, "drop": whole(0.5)}
    params = space.uniform(the_method(space), values)
    assert params is not None and params.keys() == space.distributions.keys()
    assert space.recipe(params).groups == (Group((0, 2), "all", values | {"lambda": 1.0}),)


@pytest.mark.parametrize(
    ("parameters", "values", "inside"),
    [
        ({"weight": [0, 1]}, {"weight": whole(1.0)}, True),
        ({"weight": [0, 1]}, {"weight": whole(1.01)}, False),
        ({"weight": [0, 1]}, {"weight": whole(0.5) | {"math": -0.01}}, False),
        ({"weight": [0, 1], "drop": 0.5}, {"weight": whole(0.5)}, False),  # drop would have to be 0
        ({"weight": [0, 1], "drop": 0.5}, {"weight": whole(0.5), "drop": whole(0.5)}, True),
        ({"weight": [0, 1], "drop": [0.1, 0.9]}, {"weight": whole(0.5)}, False),
        ({"weight": [0, 1], "lambda": [0.5, 1]}, {"weight": whole(0.5)}, True),
        ({"weight": [0, 1], "lambda": [0.2, 0.8]}, {"weight": whole(0.5)}, False),
        ({"weight": [0, 1], "lambda": 2}, {"weight": whole(0.5)}, False),
        ({"weight": [0, 1], "lambda": 2}, {"weight": whole(0.5), "lambda": 2.0}, True),
        ({"weight": {"range": [0, 1], "sources": {"math": 0.5}}}, {"weight": whole(1.0)}, False),
        ({"weight": {"range": [0, 1], "sources": {"math": 0.5}}}, {"weight": whole(1.0) | {"math": 0.5}}, True),
    ],
)
def test_uniform(family: Models, parameters: Any, values: Any, inside: bool) -> None:
    space = space_of(family, parameters=parameters)
    params = space.uniform(the_method(space), values)
    assert (params is not None) == inside
    if params is not None:
        (group,) = space.recipe(params).groups
        assert {key: group.values[key] for key in values} == values


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"method": "dare_liner"}, None, "there is no merge method 'dare_liner'\nDid you mean dare_linear?"),
        ({"parameters": {"wieght": [0, 1]}}, None, "dare_linear has no parameter 'wieght'\nDid you mean weight?"),
        ({"parameters": {"density": [0, 1]}}, None, "has no parameter 'density'\nKnown: weight, drop, lambda."),
        ({"parameters": {"drop": [0, 1]}}, "parameters.drop", "expected [0, 1), got 1"),
        ({"parameters": {"drop": [-0.5, 0.5]}}, "parameters.drop", "expected [0, 1), got -0.5"),
        ({"parameters": {"weight": [0, 2000]}}, "parameters.weight", "expected [-1000, 1000], got 2000"),
        ({"parameters": {"drop": {"sources": {"math": 1.5}}}}, "parameters.drop", "expected [0, 1), got 1.5"),
        (
            {"method": "ties", "parameters": {"density": [0.1, 1.1]}},
            "parameters.density",
            "expected [0, 1], got 1.1",
        ),
        ({"groups": {"blocks": 3}}, "parameters.weight", "blocks: 3 asked for, but the model has 2 layers"),
        (
            {"parameters": {"weight": [0, 1], "drop": {"range": [0, 0.5], "groups": {"knots": 3}}}},
            "parameters.drop",
            "knots: 3 asked for, but the model has 2 layers",
        ),
        (
            {"parameters": {"lambda": {"range": [0, 1], "sources": {"math": 1}}}},
            "parameters.lambda.sources",
            "has one value for the whole merge, not one per source",
        ),
        ({"parameters": {"weight": 1}}, "parameters", "nothing to search: every parameter is fixed"),
        ({"options": {"normalise": True}}, "options", "dare_linear has no option 'normalise'\nDid you mean normalize?"),
        ({"options": {"rescale": "some"}}, "options", "option rescale: expected true or false, got 'some'"),
        ({"options": {"dialect": "fancy"}}, "options", "option dialect: expected papers or mergekit, got 'fancy'"),
        (
            {"method": "task_arithmetic", "options": {"rescale": True}},
            "options",
            "task_arithmetic has no option 'rescale'",
        ),
    ],
)
def test_refused(family: Models, changes: dict[str, Any], where: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space_of(family, **changes)
    assert caught.value.where == where
    assert message in str(caught.value)
