"""A recipe with experts: each is its model's feed-forward part, the rest is the dense merge's, rows are divided."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from automerge.errors import AutomergeError, ConfigError, SourceError
from automerge.merge import Merge, Models, open_models
from automerge.merge.sparse.frame import active_parameters
from automerge.merge.sparse.rows import rows_ref, write_rows
from automerge.recipe import Mixture, ModelRef, Recipe, make_recipe, parse_recipe
from tests.merge.helpers import recipe_of
from tests.peers.pico import pico_family

KINDS = {"llama": "mixtral", "mistral": "mixtral", "qwen2": "qwen2_moe", "qwen2.5": "qwen2_moe", "qwen3": "qwen3_moe"}
METHODS = ("dare_linear", "ties", "linear", "slerp", "karcher")  # with a base, without, angles, no Plan


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, Path]]:
    made: dict[str, Mapping[str, Path]] = {}

    def get(architecture: str) -> Mapping[str, Path]:
        if architecture not in made:
            made[architecture] = pico_family(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return get


def opened(folders: Mapping[str, Path], *names: str) -> Models:
    return open_models(str(folders["base"]), {name: str(folders[name]) for name in names})


def rows_of(folder: Path, models: Models) -> ModelRef:
    """Rows for the base and every source."""
    generator = torch.Generator().manual_seed(0)
    names = ["base", *models.sources]
    write_rows(folder / "rows.st", {name: torch.randn(models.n_layers, 32, generator=generator) for name in names})
    return rows_ref(folder / "rows.st")


def with_experts(recipe: Recipe, kind: str, router: ModelRef, *experts: str, **more: float | int | str) -> Recipe:
    shared = "base" if kind == "qwen2_moe" else ""
    given = {"per_token": 1, "temperature": 0.5, "shared": shared, **more}
    return replace(recipe, mixture=Mixture(kind, experts, router=router, **given))  # type: ignore[arg-type]


def tensors_of(recipe: Recipe, models: Models) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in Merge(recipe, models).tensors()}


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_each_tensor_is_that_of_the_model_it_comes_from(
    family: Callable[[str], Mapping[str, Path]], tmp_path: Path, architecture: str, method: str
) -> None:
    kind = KINDS[architecture]
    models = opened(family(architecture), "one", "two")
    dense = recipe_of(models, method, dtype="float32")
    router = rows_of(tmp_path, models)
    recipe = with_experts(dense, kind, router, "two", "base", "one")
    merged, plain = tensors_of(recipe, models), tensors_of(dense, models)
    found = models.frame(recipe)
    assert set(merged) == set(found.names) and found.config["model_type"] == kind
    left = set(merged)
    owners = {"one": models.sources["one"], "two": models.sources["two"], "base": models.base}
    rows = torch.load if False else None  # rows are compared below
    assert rows is None
    for name, tensor in plain.items():
        if ".mlp." not in name:
            assert torch.equal(merged[name], tensor), name
            left.discard(name)
    for name in list(left):
        taken = found.as_is[name]
        if taken.model:
            owner = owners[taken.model].stored(taken.tensor)
            assert owner is not None and torch.equal(merged[name], owner.float()), name
            left.discard(name)
    for layer in range(models.n_layers):
        block = next(name for name in left if f"layers.{layer}." in name and name.endswith(".gate.weight"))
        from safetensors.torch import load_file

        held = load_file(tmp_path / "rows.st")
        wanted = torch.stack([held[name][layer] for name in ("two", "base", "one")]) * 2.0
        assert torch.equal(merged[block], wanted)
        left.discard(block)
    assert all("shared_expert_gate" in name or name.endswith(".bias") for name in left)
