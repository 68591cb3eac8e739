"""A recipe with experts: each is its model's feed-forward part, the rest is the dense merge's, rows are divided."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from automerge.errors import AutomergeError, ConfigError, SourceError
from automerge.merge import Merge, Models, open_models
from automerge.merge.checksum import TensorSum
from automerge.merge.sparse.frame import parameters
from automerge.merge.sparse.rows import rows_ref, write_rows
from automerge.recipe import Mixture, ModelRef, Recipe, parse_recipe, with_router
from tests.merge.helpers import recipe_of
from tests.merge.threads import ThreadShare, together
from tests.peers.pico import pico_families
from tests.tiny import lora_of

KINDS = {"llama": "mixtral", "mistral": "mixtral", "qwen2": "qwen2_moe", "qwen2.5": "qwen2_moe", "qwen3": "qwen3_moe"}
METHODS = ("dare_linear", "ties", "linear", "slerp", "karcher")  # with a base and without, by angles, by elements
EXPERTS = ("two", "base", "one")
HALF = 0.5  # a temperature, so that rows are doubled exactly

Pico = Callable[[str], Mapping[str, Path]]


@pytest.fixture(scope="session")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Pico:
    return pico_families(tmp_path_factory)


def opened(folders: Mapping[str, Path], *names: str) -> Models:
    return open_models(str(folders["base"]), {name: str(folders[name]) for name in names})


def rows_for(folder: Path, models: Models) -> ModelRef:
    """A file of rows for the base and every source."""
    generator = torch.Generator().manual_seed(0)
    names, width = ["base", *models.sources], int(models.config["hidden_size"])
    write_rows(folder / "rows.st", {name: torch.randn(models.n_layers, width, generator=generator) for name in names})
    return rows_ref(folder / "rows.st")


def with_experts(recipe: Recipe, kind: str, router: ModelRef, *experts: str, **more: Any) -> Recipe:
    given: dict[str, Any] = {"per_token": 1, "temperature": HALF, "shared": "base" if kind == "qwen2_moe" else ""}
    return replace(recipe, mixture=Mixture(kind, experts, router=router, **{**given, **more}))


def tensors_of(recipe: Recipe, models: Models) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in Merge(recipe, models).tensors()}


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_each_tensor_is_that_of_the_model_it_comes_from(
    pico: Pico, tmp_path: Path, architecture: str, method: str
) -> None:
    kind, models = KINDS[architecture], opened(pico(architecture), "one", "two")
    dense = recipe_of(models, method)
    recipe = with_experts(dense, kind, rows_for(tmp_path, models), *EXPERTS)
    merged, plain = tensors_of(recipe, models), tensors_of(dense, models)
    held = {name: load_file(folder / "model.safetensors") for name, folder in pico(architecture).items()}
    rows = load_file(tmp_path / "rows.st")
    blocks = (
        ("block_sparse_moe", "w1", "w2", "w3") if kind == "mixtral" else ("mlp", "gate_proj", "down_proj", "up_proj")
    )
    wanted = {name: tensor for name, tensor in plain.items() if ".mlp." not in name}
    for layer in range(models.n_layers):
        inside = f"model.layers.{layer}"
        for part, name in zip(("gate_proj", "down_proj", "up_proj"), blocks[1:], strict=True):
            for number, expert in enumerate(EXPERTS):
                tensor = held[expert][f"{inside}.mlp.{part}.weight"].float()
                wanted[f"{inside}.{blocks[0]}.experts.{number}.{name}.weight"] = tensor
            if kind == "qwen2_moe":
                wanted[f"{inside}.mlp.shared_expert.{part}.weight"] = held["base"][
                    f"{inside}.mlp.{part}.weight"
                ].float()
        wanted[f"{inside}.{blocks[0]}.gate.weight"] = torch.stack([rows[expert][layer] for expert in EXPERTS]) / HALF
        if kind == "qwen2_moe":
            wanted[f"{inside}.mlp.shared_expert_gate.weight"] = rows["base"][layer][None] / HALF
    assert merged.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(merged[name], tensor), name
    frame = models.frame(recipe)
    assert frame.config["model_type"] == kind and {name: tuple(t.shape) for name, t in wanted.items()} == frame.shapes
    expert = sum(math.prod(shape) for name, shape in models.shapes.items() if ".mlp." in name)
    total = sum(tensor.numel() for tensor in wanted.values())
    assert recipe.mixture and parameters(frame, recipe.mixture) == (total, total - 2 * expert)


def test_a_llama_as_qwen2_moe_gets_the_biases_it_lacks(pico: Pico, tmp_path: Path) -> None:
    models = opened(pico("llama"), "one", "two")
    merged = tensors_of(
        with_experts(recipe_of(models, "ties"), "qwen2_moe", rows_for(tmp_path, models), *EXPERTS), models
    )
    biases = [tensor for name, tensor in merged.items() if name.endswith("_proj.bias")]
    assert len(biases) == 3 * models.n_layers and not any(tensor.any() for tensor in biases)


def adapted(folders: Mapping[str, Path], folder: Path) -> Models:
    """A full source and an adapter."""
    adapter = lora_of(folders["base"], folder / "adapter", seed=2)
    return open_models(str(folders["base"]), {"one": str(folders["one"]), "adapter": str(adapter)})


def test_an_adapter_is_an_expert_as_it_would_be_merged_by_itself(pico: Pico, tmp_path: Path) -> None:
    models = adapted(pico("llama"), tmp_path)
    recipe = with_experts(recipe_of(models, "dare_linear"), "mixtral", rows_for(tmp_path, models), "adapter", "one")
    alone = recipe_of(models, "linear", {"weight": {"adapter": 1.0, "one": 0.0}})
    merged, wanted = tensors_of(recipe, models), tensors_of(alone, models)
    for layer in range(models.n_layers):
        for name, part in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
            tensor = merged[f"model.layers.{layer}.block_sparse_moe.experts.0.{name}.weight"]
            torch.testing.assert_close(tensor, wanted[f"model.layers.{layer}.mlp.{part}.weight"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_give_the_same_bytes_and_keep_no_expert_twice(pico: Pico, tmp_path: Path, ranks: int) -> None:
    models = adapted(pico("llama"), tmp_path)
    router = rows_for(tmp_path, models)
    recipes = [
        with_experts(recipe_of(models, "dare_linear", dtype="bfloat16"), "mixtral", router, *experts)
        for experts in (("adapter", "one"), ("one", "base"), ("one", "one"))
    ]

    def work(share: ThreadShare) -> list[tuple[dict[str, torch.Tensor], list[TensorSum]]]:
        done = []
        Merge(recipes[0], models, share=share).hold()
        for recipe in recipes:
            merge = Merge(recipe, models, share=share, batch_bytes=1000)
            done.append(({name: tensor.clone() for name, tensor, _ in merge.judged_tensors()}, merge.totals))
        assert {key[1] for key in share.took} <= set(models.shapes)  # under dense names: no expert is a model more
        return done

    for rank in together(ranks, work):
        for recipe, (found, _) in zip(recipes, rank, strict=True):
            for name, tensor in tensors_of(recipe, models).items():
                assert torch.equal(found[name], tensor), name


def test_a_recipe_says_all_of_it(pico: Pico, tmp_path: Path) -> None:
    models = opened(pico("qwen2"), "one", "two")
    recipe = with_experts(recipe_of(models, "ties"), "qwen2_moe", rows_for(tmp_path, models), "one", "two")
    assert parse_recipe(recipe.to_json()) == recipe
    assert with_router(recipe, Path("/elsewhere")).hash == recipe.hash
    assert recipe.mixture is not None
    for change in ({"experts": ("two", "one")}, {"per_token": 2}, {"temperature": 1.0}, {"shared": "one"}):
        assert replace(recipe, mixture=replace(recipe.mixture, **change)).hash != recipe.hash  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experts": ["one", "three"]}, "'three' is not a model in this recipe; it has base, one, two"),
        ({"per_token": 3}, "expected 1 to 2 experts per token"),
        ({"temperature": 0.0}, "expected a number above 0, got 0.0"),
        ({"shared": "nobody"}, "'nobody' is not a model in this recipe"),
        ({"router": {}}, "missing key 'name'"),
    ],
)
def test_a_recipe_that_makes_no_sense(pico: Pico, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    models = opened(pico("llama"), "one", "two")
    data = json.loads(
        with_experts(recipe_of(models, "ties"), "mixtral", ModelRef("router", "", ""), "one", "two").to_json()
    )
    data["mixture"].update(change)
    with pytest.raises(ConfigError) as caught:
        parse_recipe(json.dumps(data))
    assert said in caught.value.message


def test_rows_that_are_not_there_or_are_others(pico: Pico, tmp_path: Path) -> None:
    models = opened(pico("llama"), "one", "two")
    router = rows_for(tmp_path, models)
    recipe = with_experts(recipe_of(models, "ties"), "mixtral", router, "one", "two")

    def refused(recipe: Recipe) -> AutomergeError:
        with pytest.raises(AutomergeError) as caught:
            tensors_of(recipe, opened(pico("llama"), "one", "two"))
        return caught.value

    assert "is not there" in refused(with_router(recipe, tmp_path / "gone.st")).message
    write_rows(tmp_path / "other.st", {"one": torch.zeros(3, 32)})
    other = refused(with_router(recipe, tmp_path / "other.st"))
    assert isinstance(other, SourceError) and "the router's rows are others" in other.message
    lacking = replace(recipe, mixture=replace(recipe.mixture, router=rows_ref(tmp_path / "other.st")))  # type: ignore[type-var]
    assert "no router rows of two; there are of one" in refused(lacking).message
    write_rows(tmp_path / "narrow.st", {"one": torch.zeros(3, 8), "two": torch.zeros(3, 8)})
    narrow = replace(recipe, mixture=replace(recipe.mixture, router=rows_ref(tmp_path / "narrow.st")))  # type: ignore[type-var]
    assert "shape [2, 8], expected [2, 32]" in refused(narrow).message


def test_models_that_no_sparse_model_is_made_of(pico: Pico, tmp_path: Path) -> None:
    models = opened(pico("llama"), "one", "two")
    with pytest.raises(ConfigError) as caught:
        models.frame(with_experts(recipe_of(models, "ties"), "qwen3_moe", ModelRef("router", "", ""), "one", "two"))
    assert "qwen3_moe is made of qwen3, not of llama" in caught.value.message
