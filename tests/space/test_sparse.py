"""A space of sparse models: which experts, how many a token, how sharply; the baselines stay dense."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from automerge.errors import ConfigError
from automerge.merge import Models
from automerge.recipe import Mixture
from automerge.space.baselines import baselines
from automerge.space.nearest import nearest
from automerge.space.space import SearchSpace
from tests.space.helpers import space_of

EXPERTS = {name: {"positive_prompts": [f"a prompt for {name}"]} for name in ("math", "code", "writing", "base")}


def sparse(models: Models, **mixture: Any) -> SearchSpace:
    return space_of(models, mixture={"experts": EXPERTS, "experts_per_token": 1, **mixture})


def test_what_has_several_values_is_a_parameter(family: Models) -> None:
    space = sparse(family, num_experts=[3, 2], experts_per_token=[2, 1], temperature={"range": [0.1, 4]})
    sets = space.distributions["experts"]
    assert isinstance(sets, CategoricalDistribution) and len(sets.choices) == 6 + 4
    assert sets.choices[0] == "math+code" and sets.choices[-1] == "code+writing+base"
    assert space.distributions["experts_per_token"] == CategoricalDistribution(["1", "2"])
    assert space.distributions["temperature"] == FloatDistribution(0.1, 4, log=True)


def test_what_has_one_value_is_none(family: Models) -> None:
    space = sparse(family, temperature=0.5)
    assert not {"experts", "experts_per_token", "temperature"} & set(space.distributions)
    mixture = space.recipe(space.middle()).mixture
    assert mixture == Mixture("mixtral", ("math", "code", "writing", "base"), 1, family.router, 0.5)


def test_a_points_mixture(family: Models) -> None:
    space = sparse(family, num_experts=2, experts_per_token=[1, 2], temperature=[0.1, 4])
    point = {**space.middle(), "experts": "code+base", "experts_per_token": "2", "temperature": 0.25}
    recipe = space.recipe(point)
    assert recipe.mixture is not None and recipe.groups == space_of(family).recipe(space.middle()).groups
    assert (recipe.mixture.experts, recipe.mixture.per_token, recipe.mixture.temperature) == (("code", "base"), 2, 0.25)
    again = nearest(space, recipe)
    assert set(again) == set(space.distributions)
    assert {name: again[name] for name in point} == point
    sharper = sparse(family, num_experts=3, experts_per_token=[1, 3], temperature=[1, 4])
    near = nearest(sharper, recipe)  # has no two experts, nor two a token, nor so low a temperature
    assert (near["experts"], near["experts_per_token"], near["temperature"]) == ("math+code+writing", "1", 1.0)
    dense = nearest(space, space_of(family).recipe(space_of(family).middle()))
    assert dense["experts"] == "math+code" and dense["temperature"] == 1.0  # where every search begins


def test_a_temperature_begins_within_its_range(family: Models) -> None:
    for bounds, begin in (([0.01, 0.5], 0.5), ([2, 8], 2.0), ([0.5, 2], 1.0)):
        assert sparse(family, temperature=bounds).choice("dare_linear")["temperature"] == begin


def test_the_baselines_are_dense_and_no_points(family: Models) -> None:
    found = baselines(sparse(family))
    assert {one.name for one in found} >= {"base", "math", "plain_average"}
    assert all(one.params is None and one.recipe.mixture is None for one in found)


def test_a_base_that_no_sparse_model_is_made_of(family: Models) -> None:
    with pytest.raises(ConfigError) as caught:
        sparse(family, architecture="qwen3_moe")
    assert "qwen3_moe is made of qwen3, not of llama" in caught.value.message and caught.value.where == "mixture"
    with pytest.raises(ConfigError) as caught:
        sparse(family, architecture="mixtral", shared_expert="base")
    assert "takes none of shared_experts, got 1" in caught.value.message
    shared = sparse(family, architecture="qwen2_moe", shared_expert="base", num_experts=2)
    recipe = shared.recipe(shared.middle())
    assert recipe.mixture is not None and recipe.mixture.shared == "base"
    choices = shared.distributions["experts"]
    assert isinstance(choices, CategoricalDistribution) and not any("base" in one for one in choices.choices)
