"""Every LoRA option that is supported, against PEFT's own merge_and_unload on an fp32 base.

Tolerance: eight ulp of the tensor's largest value. PEFT's products are summed by BLAS in an order of its own, so the
last bits differ.
"""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import SourceError
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.compat import merged_shapes
from automerge.merge.sources.lora import LoraAdapter
from automerge.merge.sources.lora_vocabulary import adapted_shapes
from tests.merge.test_lora import expert_lora
from tests.tiny import peft_lora_of, tiny_model

ULP = 2.0**-23
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
PATTERNS = {
    "rank_pattern": {"q_proj": 8, r"layers\.1\.mlp\..*": 2, "model.layers.0.self_attn.k_proj": 3, "proj": 5},
    "alpha_pattern": {".*self_attn.q_proj": 3, "1.mlp.up_proj": 5.5, "up_proj": 16},
}


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    made = {kind: tiny_model(root / kind, kind) for kind in ("llama", "qwen2", "gpt2", "phi3", "mixtral", "gpt_neox")}
    made["tied"] = tiny_model(root / "tied", "qwen2", tied=True)
    made["gpt2, short names"] = without_prefix(made["gpt2"], root / "short gpt2", "transformer.")
    made["tied, short names"] = without_prefix(made["tied"], root / "short tied", "model.")
    return made


def without_prefix(folder: Path, out: Path, prefix: str) -> Path:
    """The checkpoint as the hub has GPT-2, and every model that was saved without its head."""
    shutil.copytree(folder, out)
    tensors = load_file(folder / "model.safetensors")
    plain = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    save_file(plain, out / "model.safetensors", metadata={"format": "pt"})
    return out


def open_adapter(base: Path, adapter: Path) -> tuple[Checkpoint, dict[str, tuple[int, ...]], LoraAdapter]:
    root = Checkpoint(base)
    shapes = merged_shapes(root, root)
    return root, shapes, LoraAdapter(adapter, root, shapes)


def merged_by_peft(base: Path, adapter: Path, out: Path) -> dict[str, torch.Tensor]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    return load_file(out / "model.safetensors")


def check(base: Path, adapter: Path, out: Path) -> set[str]:
    """Compares every tensor with PEFT's; the names of those the adapter changes."""
    root, shapes, ours = open_adapter(base, adapter)
    theirs = merged_by_peft(base, adapter, out)
    if set(theirs).isdisjoint(shapes):  # PEFT writes the names in memory
        theirs = {name.partition(".")[2]: tensor for name, tensor in theirs.items()}
    assert set(theirs) == set(shapes)
    changed: set[str] = set()
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        values = root.values(name, 0, size)
        merged = ours.weights(name, values, 0, size).view(shape)
        torch.testing.assert_close(merged, theirs[name], rtol=0, atol=8 * ULP * float(theirs[name].abs().max()))
        assert torch.equal(merged, values.view(shape)) == torch.equal(theirs[name], values.view(shape))
        assert ours.changes(name) or torch.equal(merged, values.view(shape))
        changed |= set() if torch.equal(merged, values.view(shape)) else {name}
    return changed


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "plain": ("llama", {"target_modules": LINEAR}, 14),
    "all-linear": ("llama", {"target_modules": "all-linear"}, 14),
    "expression": ("llama", {"target_modules": r"model\.layers\.1\..*(q|up)_proj"}, 2),
    "rslora": ("llama", {"target_modules": LINEAR, "use_rslora": True}, 14),
    "bf16": ("llama", {"target_modules": LINEAR, "dtype": torch.bfloat16}, 14),
    "patterns": ("llama", {"target_modules": LINEAR, **PATTERNS}, 14),
    "patterns, rslora": ("llama", {"target_modules": LINEAR, **PATTERNS, "use_rslora": True}, 14),
    "one layer": ("llama", {"target_modules": LINEAR, "layers_to_transform": 1}, 7),
    "layers, pattern": (
        "llama",
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
        1,
    ),
    "excluded": ("llama", {"target_modules": LINEAR, "exclude_modules": ["q_proj"]}, 12),
    "dropout": ("llama", {"target_modules": LINEAR, "lora_dropout": 0.5}, 14),
    **{
        f"init {init}": ("llama", {"target_modules": ["q_proj"], "init_lora_weights": init}, 2)
        for init in (False, "gaussian", "orthogonal", "mica")
    },
    "dora": ("llama", {"target_modules": LINEAR, "use_dora": True}, 14),
    "dora, rslora, patterns": (
        "llama",
        {"target_modules": LINEAR, "use_dora": True, "use_rslora": True, **PATTERNS},
        14,
    ),
    "dora, bf16": ("llama", {"target_modules": LINEAR, "use_dora": True, "dtype": torch.bfloat16}, 14),
    "dora, embedding and head": ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}, 2),
    "bias all": ("qwen2", {"target_modules": ["q_proj"], "bias": "all"}, 8),
    "bias lora_only": ("qwen2", {"target_modules": ["q_proj", "o_proj"], "bias": "lora_only"}, 6),
    "bias all, saved norm": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "modules_to_save": ["ln_f"]}, 16),
    "bias all, saved layer": (
        "qwen2",
        {"target_modules": ["up_proj"], "bias": "all", "modules_to_save": ["layers.1.self_attn"]},
        12,
    ),
    "lora_bias": ("qwen2", {"target_modules": ["q_proj", "k_proj"], "lora_bias": True}, 8),
    "saved head and norm": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "model.norm"]}, 4),
    "saved embedding": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, 3),
    "saved layer": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["layers.1.self_attn"]}, 8),
    "saved, bf16": (
        "llama",
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "dtype": torch.bfloat16},
        3,
    ),
    "embedding": ("llama", {"target_modules": ["embed_tokens"]}, 1),
    "embedding, rslora": ("llama", {"target_modules": ["embed_tokens", "q_proj"], "use_rslora": True}, 3),
    "head": ("llama", {"target_modules": ["lm_head"]}, 1),
    "embeddings beside": ("llama", {"target_modules": ["q_proj"], "save_embedding_layers": True}, 2),
    "tied embeddings beside": ("tied", {"target_modules": ["q_proj"], "save_embedding_layers": True}, 2),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [9, 3, 63]}, 3),
    "tokens by name": (
        "llama",
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7, 1]}},
        4,
    ),
    "tied embedding": ("tied", {"target_modules": ["embed_tokens"]}, 1),
    "tied head": ("tied", {"target_modules": ["lm_head"]}, 1),
    "tied dora": ("tied", {"target_modules": ["embed_tokens"], "use_dora": True}, 1),
    "tied head, dora": ("tied", {"target_modules": ["lm_head"], "use_dora": True}, 1),
    "tied tokens": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": [4, 2]}, 3),
    "tied tokens of the head": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [4]}}, 3),
    "tied, saved": (
        "tied",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        3,
    ),
    "tokens, embeddings beside": (
        "llama",
        {"target_modules": ["q_proj"], "trainable_token_indices": [9, 3], "save_embedding_layers": True},
        3,
    ),
    "tied tokens, embeddings beside": (
        "tied",
        {"target_modules": ["q_proj"], "trainable_token_indices": [9, 3], "save_embedding_layers": True},
        3,
    ),
    "tied, other tokens of the head": (
        "tied",
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7, 1]}},
        3,
    ),
    "fused": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}, 4),
    "fused, dora": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"], "use_dora": True}, 4),
    "transposed": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}, 8),
    "transposed, unsaid": ("gpt2", {"target_modules": ["c_attn", "c_proj"]}, 6),
    "transposed, dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True, "fan_in_fan_out": True}, 6),
    "transposed, bias": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}, 15),
    "transposed, positions": ("gpt2", {"target_modules": ["wte", "wpe"]}, 2),
    "short names": ("gpt2, short names", {"target_modules": ["c_attn", "c_proj"]}, 6),
    "short names, dora": ("gpt2, short names", {"target_modules": ["c_attn", "wte"], "use_dora": True}, 3),
    "short names, bias, saved norm": (
        "gpt2, short names",
        {"target_modules": ["c_attn"], "bias": "all", "modules_to_save": ["ln_f"]},
        16,
    ),
    "short names, expressions": (
        "gpt2, short names",
        {"target_modules": r"transformer\.h\.1\..*(c_attn|c_fc)", "rank_pattern": {r"transformer\.h\.1\.attn.*": 2}},
        2,
    ),
    "short names, tokens": ("gpt2, short names", {"target_modules": ["c_fc"], "trainable_token_indices": [4, 2]}, 3),
    "short names, tied head": ("gpt2, short names", {"target_modules": ["lm_head", "c_fc"]}, 3),
    "short names of a llama": ("tied, short names", {"target_modules": LINEAR, "modules_to_save": ["model.norm"]}, 15),
    "renamed head": ("gpt_neox", {"target_modules": ["query_key_value", "lm_head"]}, 3),
    "renamed head, by its old name": ("gpt_neox", {"target_modules": ["query_key_value", "embed_out"]}, 2),
    "renamed head, saved": ("gpt_neox", {"target_modules": ["dense"], "modules_to_save": ["lm_head", "embed_in"]}, 4),
    "renamed head, not saved": ("gpt_neox", {"target_modules": ["dense"], "modules_to_save": ["embed_out"]}, 2),
    "router of experts": ("mixtral", {"target_modules": ["q_proj"], "modules_to_save": ["gate"]}, 4),
    "attention of experts": ("mixtral", {"target_modules": ATTENTION}, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_peft(tmp_path: Path, bases: dict[str, Path], case: str) -> None:
    kind, options, changed = CASES[case]
    adapter = peft_lora_of(bases[kind], tmp_path / "x", 4, **options)
    assert len(check(bases[kind], adapter, tmp_path / "merged")) == changed


def test_an_adapter_of_either_spelling_is_the_same(tmp_path: Path, bases: dict[str, Path]) -> None:
    adapter = peft_lora_of(bases["gpt2"], tmp_path / "x", 4, target_modules=["c_attn"], modules_to_save=["ln_f"])
    path = adapter / "adapter_model.safetensors"
    long, short = bases["gpt2"], bases["gpt2, short names"]
    wanted = {name.removeprefix("transformer.") for name in check(long, adapter, tmp_path / "long")}
    assert check(short, adapter, tmp_path / "short") == wanted
    tensors = load_file(path)
    save_file({name.replace("transformer.", ""): tensor for name, tensor in tensors.items()}, path)
    root, _, ours = open_adapter(short, adapter)
    assert {name for name in root.shapes if ours.changes(name)} == wanted
    with pytest.raises(SourceError, match=r"the adapter changes h\.0\..*, which the base does not have"):
        open_adapter(long, adapter)


@pytest.mark.parametrize(
    ("lost", "options", "message"),
    [
        ("h.1.attn.c_attn", {}, r"target_modules names transformer\.h\.1\.attn\.c_attn, but the file holds no factors"),
        ("ln_f.bias", {"modules_to_save": ["ln_f"]}, r"modules_to_save names transformer\.ln_f, but the file holds no"),
    ],
)
def test_an_incomplete_adapter_of_another_spelling(
    tmp_path: Path, bases: dict[str, Path], lost: str, options: dict[str, Any], message: str
) -> None:
    short = bases["gpt2, short names"]
    adapter = peft_lora_of(short, tmp_path / "x", 4, target_modules=["c_attn"], **options)
    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if lost not in name}, path)
    with pytest.raises(SourceError, match=message):
        open_adapter(short, adapter)


def test_the_rows_of_an_adapter_of_another_spelling(tmp_path: Path, bases: dict[str, Path]) -> None:
    """Tokens were added, and the embedding saved whole."""
    options = {"target_modules": ["c_attn"], "modules_to_save": ["wte"], "ensure_weight_tying": True}
    short = bases["gpt2, short names"]
    adapter = peft_lora_of(short, tmp_path / "x", 4, rows=67, **options)
    root = Checkpoint(short)
    shapes = merged_shapes(root, root)
    assert adapted_shapes(adapter, shapes) == {**shapes, "wte.weight": (67, 32)}


def test_experts_equal_peft(tmp_path: Path, bases: dict[str, Path]) -> None:
    adapter = expert_lora(bases["mixtral"], tmp_path / "x")
    assert len(check(bases["mixtral"], adapter, tmp_path / "merged")) == 2 * (4 * 3 + 1)


@pytest.mark.shared
def test_a_real_adapter_equals_peft(tmp_path: Path) -> None:
    shared = Path(os.environ.get("AUTOMERGE_SHARED", Path(__file__).parents[2].parent / "shared"))
    base = os.environ.get("AUTOMERGE_SMOLLM2", "")
    adapter = shared / "models" / "math"
    if not adapter.is_dir() or not Path(base, "config.json").is_file():
        pytest.skip(f"needs {adapter} (AUTOMERGE_SHARED) and the folder of SmolLM2-135M-Instruct in AUTOMERGE_SMOLLM2")
    assert len(check(Path(base), adapter, tmp_path / "merged")) == 210


def test_a_saved_embedding_replaces_a_tied_one(tmp_path: Path, bases: dict[str, Path]) -> None:
    """One that is beside the factors, not in modules_to_save, is loaded into the tensor that both share."""
    adapter = peft_lora_of(bases["tied"], tmp_path / "x", 4, target_modules=["q_proj"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        own = torch.randn(64, 32, generator=torch.Generator().manual_seed(6))
        save_file({**tensors, f"base_model.model.{name}": own}, adapter / "adapter_model.safetensors")
        assert len(check(bases["tied"], adapter, tmp_path / name)) == 3
