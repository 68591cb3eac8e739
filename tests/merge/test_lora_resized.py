"""Adapters of a base that was given tokens, as PEFT saves them, opened as a user opens them, against PEFT's merge."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import SourceError
from automerge.merge.models import find_models
from tests.merge.helpers import merged, recipe_of
from tests.merge.test_lora_peft import ULP, merged_by_peft
from tests.tiny import peft_lora_of, tiny_model

FILE = "adapter_model.safetensors"
BOTH = ["embed_tokens", "lm_head"]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("resized")
    return {kind: tiny_model(root / kind, "llama", tied=kind == "tied") for kind in ("own", "tied")}


def resized(base: Path, out: Path, **options: Any) -> tuple[Path, Path]:
    """The base with three tokens more, and an adapter of that, beside its tokenizer, that says it is of the base."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    larger = out / "larger"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model.resize_token_embeddings(67, mean_resizing=False)
    model.save_pretrained(larger)
    adapter = peft_lora_of(base, out / "x", 5, rows=67, **options)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<A>", "<B>", "<C>"]})
    tokenizer.save_pretrained(adapter)
    return larger, adapter


def refusal(base: Path, adapter: Path) -> str:
    with pytest.raises(SourceError) as raised:
        find_models(str(base), {"x": str(adapter)})
    return str(raised.value).replace("\n", " ")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("own", {}),
        ("tied", {}),
        ("own", {"modules_to_save": BOTH}),
        ("own", {"modules_to_save": ["embed_tokens"]}),
        ("own", {"modules_to_save": BOTH, "save_embedding_layers": False}),
        ("tied", {"modules_to_save": BOTH, "ensure_weight_tying": True}),
    ],
)
def test_equal_to_peft(tmp_path: Path, bases: dict[str, Path], kind: str, options: dict[str, Any]) -> None:
    larger, adapter = resized(bases[kind], tmp_path, target_modules=["q_proj"], **options)
    if options.get("modules_to_save") and options.get("save_embedding_layers", True):
        assert any(".original_module." in name for name in load_file(adapter / FILE))
    theirs = merged_by_peft(larger, adapter, tmp_path / "merged")
    models = find_models(str(bases[kind]), {"x": str(adapter)})
    recipe = recipe_of(models, "task_arithmetic", {"weight": {"x": 1.0}}, tokenizer="x")
    ours, _ = merged(recipe, models)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=8 * ULP * float(tensor.abs().max()))


def test_second_copies_must_be_the_same(tmp_path: Path, bases: dict[str, Path]) -> None:
    _, adapter = resized(bases["own"], tmp_path, target_modules=["q_proj"], modules_to_save=BOTH)
    tensors = load_file(adapter / FILE)
    second = "base_model.model.model.embed_tokens.modules_to_save.weight"
    save_file({**tensors, second: tensors[second] + 1}, adapter / FILE)
    assert f"modules_to_save: base_model.model.model.embed_tokens.weight and {second} should be the same" in refusal(
        bases["own"], adapter
    )
    del tensors["base_model.model.model.embed_tokens.weight"]
    save_file(tensors, adapter / FILE)
    assert f"modules_to_save: the file holds {second}, but no model.embed_tokens.weight" in refusal(
        bases["own"], adapter
    )


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("trainable_token_indices", {"target_modules": ["q_proj"], "trainable_token_indices": [64, 65]}),
        ("target_modules", {"target_modules": ["q_proj", "embed_tokens"]}),
    ],
)
@pytest.mark.parametrize("kind", ["own", "tied"])
def test_changes_of_further_rows_are_refused(
    tmp_path: Path, bases: dict[str, Path], kind: str, option: str, options: dict[str, Any]
) -> None:
    _, adapter = resized(bases[kind], tmp_path, **options)
    text = refusal(bases[kind], adapter)
    assert f"{option} on model.embed_tokens.weight of another number of rows than the base's 64, 67" in text
    assert "modules_to_save" in text
