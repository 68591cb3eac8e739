"""Whole merges: same bytes however the work is cut, identities, groups, odd shapes and refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from automerge.errors import ConfigError, MergeError, SourceError
from automerge.merge import Merge, Models, method_names, models_of, open_models
from automerge.merge.checksum import ModelSum, tensor_sum
from automerge.merge.thresholds import threshold_of
from automerge.recipe import Group, parse_recipe
from tests.merge.helpers import merged, recipe_of, write_model

WEIGHT = {"code": 0.7, "math": -0.4, "writing": 0.5}
SHARE = {"code": 0.3, "math": 0.6, "writing": 0.9}
VALUES = {
    "linear": {"weight": WEIGHT},
    "task_arithmetic": {"weight": WEIGHT, "lambda": 0.9},
    "ties": {"weight": WEIGHT, "density": SHARE},
    "dare_linear": {"weight": WEIGHT, "drop": SHARE},
    "dare_ties": {"weight": WEIGHT, "drop": SHARE, "lambda": 1.1},
}


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_runs_and_threads_do_not_show(family: Models, method: str, dtype: str) -> None:
    recipe = recipe_of(family, method, VALUES[method], dtype=dtype, seed=5)
    tensors, checksum = merged(recipe, family)
    for chunk in (100, 1000) if dtype == "bfloat16" else (333,):
        assert merged(recipe, family, chunk=chunk)[1] == checksum
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert merged(recipe, family)[1] == checksum
    finally:
        torch.set_num_threads(threads)
    sums = ModelSum()
    for name, tensor in reversed(tensors.items()):
        assert str(tensor.dtype) == f"torch.{dtype}"
        sums.add(tensor_sum(name, tensor))
    assert sums.hexdigest() == checksum


def test_another_process_gives_the_same_bytes(family: Models) -> None:
    recipe = recipe_of(family, "dare_ties", VALUES["dare_ties"])
    code = (
        "import sys; from automerge.merge import Merge, models_of; from automerge.recipe import parse_recipe\n"
        "recipe = parse_recipe(sys.stdin.read()); merge = Merge(recipe, models_of(recipe))\n"
        "list(merge.tensors()); print(merge.checksum)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=recipe.to_json(),
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONHASHSEED": "77",
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.stdout.strip() == merged(recipe, family)[1]


def test_order_names_and_layers(family: Models) -> None:
    merge = Merge(recipe_of(family, "linear"), family)
    names = [name for name, _ in merge.tensors()]
    assert names[0] == "model.embed_tokens.weight" and names[-1] == "model.norm.weight"
    assert tuple(names) == merge.names == family.tensor_names
    assert family.n_layers == 2
    assert merge.bytes == 4 * sum(family.base.mapped(name).numel() for name in names)


@pytest.mark.parametrize("method", [name for name in method_names() if name != "linear"])
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


def test_p_close_to_one_keeps_something_and_stays_finite(family: Models) -> None:
    values = {"weight": WEIGHT, "drop": dict.fromkeys(WEIGHT, 0.9999999)}
    merged(recipe_of(family, "dare_linear", values), family)


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


def test_odd_shapes(tmp_path: Path) -> None:
    shapes = [(), (0,), (1,), (3, 0, 2), (1, 1), (2, 3, 5), (0, 4), (17,)]
    base = {f"t{n}": torch.full(shape, 1.0) for n, shape in enumerate(shapes)}
    fine = {name: tensor + 0.5 for name, tensor in base.items()}
    models = open_models(str(write_model(tmp_path / "base", base)), {"x": str(write_model(tmp_path / "x", fine))})
    for method in method_names():
        tensors, checksum = merged(recipe_of(models, method), models)
        for name, tensor in fine.items():
            assert torch.equal(tensors[name], tensor)
        assert merged(recipe_of(models, method), models, chunk=1)[1] == checksum


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


@pytest.mark.parametrize("share", [0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
def test_thresholds_are_exact(family: Models, share: float) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    delta = (family.sources["code"].mapped(name) - family.base.mapped(name)).abs().numpy().reshape(-1)
    kept = int(share * delta.size)
    threshold = threshold_of(family, "code", name, share, [(0, 1000), (1000, delta.size)])
    assert int((delta >= np.float32(threshold)).sum()) == kept
    assert threshold_of(family, "math", "model.norm.weight", 0.5, [(0, 32)]) == 0.0  # untouched by the adapter


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
