"""Whole merges: same bytes however the work is cut, identities, groups, odd shapes and refusals."""

import json
from pathlib import Path

import pytest
import torch

from automerge.errors import ConfigError, MergeError, SourceError
from automerge.merge import Merge, Models, models_of, open_models
from automerge.recipe import Group, parse_recipe
from tests.merge.helpers import merged, recipe_of, write_model

WEIGHT = {"code": 0.7, "math": -0.4, "writing": 0.5}


def test_order_names_and_layers(family: Models) -> None:
    merge = Merge(recipe_of(family, "linear"), family)
    names = [name for name, _ in merge.tensors()]
    assert names[0] == "model.embed_tokens.weight" and names[-1] == "model.norm.weight"
    assert tuple(names) == merge.names == family.tensor_names
    assert family.n_layers == 2
    assert merge.bytes == 4 * sum(family.base.mapped(name).numel() for name in names)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear", "dare_ties"])
def test_weight_zero_gives_the_base(family: Models, method: str) -> None:
    tensors, _ = merged(recipe_of(family, method, {"weight": dict.fromkeys(WEIGHT, 0.0)}), family)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, family.base.mapped(name))


def test_identities(family: Models) -> None:
    """Nothing dropped is task arithmetic; nothing kept is the base; a model alone is itself."""
    task = merged(recipe_of(family, "task_arithmetic", {"weight": WEIGHT}), family)
    assert merged(recipe_of(family, "dare_linear", {"weight": WEIGHT}), family)[1] == task[1]
    nothing = merged(recipe_of(family, "ties", {"weight": WEIGHT, "density": dict.fromkeys(WEIGHT, 0.0)}), family)[0]
    code = merged(recipe_of(family, "linear", {"weight": {"code": 2.0, "math": 0.0, "writing": 0.0}}), family)[0]
    for name in family.tensor_names:
        assert torch.equal(nothing[name], family.base.mapped(name))
        assert torch.equal(code[name], family.sources["code"].mapped(name))


def test_p_close_to_one_stays_finite(family: Models) -> None:
    values = {"weight": WEIGHT, "drop": dict.fromkeys(WEIGHT, 0.9999999)}
    tensors, _ = merged(recipe_of(family, "dare_linear", values), family)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_groups_rule_their_tensors(family: Models) -> None:
    off, on = dict.fromkeys(WEIGHT, 0.0), dict.fromkeys(WEIGHT, 1.0)
    groups = (
        Group((0, 1), "all", {"weight": off}),
        Group((1, 2), "attention", {"weight": on}),
        Group((1, 2), "mlp", {"weight": off}),
        Group((1, 2), "rest", {"weight": off}),
    )
    tensors, _ = merged(recipe_of(family, "task_arithmetic", groups=groups), family)
    changed = {name for name in tensors if not torch.equal(tensors[name], family.base.mapped(name))}
    assert changed == {f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkvo"}
    with pytest.raises(ConfigError, match="no group covers layer 1"):
        Merge(recipe_of(family, "ties", groups=groups[:1]), family)


def test_the_mask_follows_content_not_names(folders: dict[str, str]) -> None:
    values = {"drop": {"x": 0.5}}
    one = open_models(folders["base"], {"x": folders["code"]})
    two = open_models(folders["base"], {"x": folders["code"], "y": folders["writing"]})
    both = {"drop": {"x": 0.5, "y": 0.0}, "weight": {"x": 1.0, "y": 0.0}}
    assert merged(recipe_of(one, "dare_linear", values), one)[1] == merged(recipe_of(two, "dare_linear", both), two)[1]
    seeds = {merged(recipe_of(one, "dare_linear", values, seed=seed), one)[1] for seed in range(3)}
    assert len(seeds) == 3


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = {"a": torch.ones(4), "b": torch.full((4,), 3e38)}
    fine = {"a": torch.ones(4) * 2, "b": torch.full((4,), -3e38)}
    models = open_models(str(write_model(tmp_path / "base", base)), {"x": str(write_model(tmp_path / "x", fine))})
    with pytest.raises(MergeError, match="b: the merge gives values float32 cannot hold"):
        merged(recipe_of(models, "task_arithmetic"), models)
    with pytest.raises(MergeError, match="values float16 cannot hold"):
        merged(recipe_of(models, "linear", dtype="float16"), models)


def test_the_checksum_waits_for_the_last_tensor(family: Models) -> None:
    merge = Merge(recipe_of(family, "linear"), family)
    stream = merge.tensors()
    next(stream)
    with pytest.raises(MergeError, match="known when every tensor has been merged"):
        _ = merge.checksum
    tensors = dict(merge.tensors())
    first = merge.checksum
    for name in merge.names:
        assert torch.equal(merge.merge_tensor(name), tensors[name])
    list(merge.tensors())
    assert merge.checksum == first


def test_models_of_a_recipe(family: Models, folders: dict[str, str]) -> None:
    recipe = recipe_of(family, "linear")
    assert merged(recipe, models_of(recipe))[1] == merged(recipe, family)[1]
    with pytest.raises(SourceError, match='does not say where base is\nAdd its "path"'):
        models_of(parse_recipe(json.dumps(recipe.canonical())))
    data = json.loads(recipe.to_json())
    data["sources"][0]["path"] = folders["writing"]
    changed = parse_recipe(json.dumps(data))
    with pytest.raises(SourceError, match=r"code differs from the recipe's: expected digest [0-9a-f]{12}, got"):
        models_of(changed)
    with pytest.raises(SourceError, match="the recipe names code, which is not open"):
        Merge(recipe, open_models(folders["base"], {"writing": folders["writing"]}))
