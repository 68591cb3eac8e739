"""Pico checkpoints for the peer tests: for each architecture a base and four fine-tunes, bf16, made on the spot.

They are written by transformers' own config and model classes, so that any reader of Hugging Face checkpoints takes
them. A fine-tune's delta is normal noise of 0.02 × the tensor's own deviation (of 2 × for one of them) with a share
of exact zeros, sized so that bf16 does not swallow it. Two more have tokens of their own, one of them in common. Equal
arguments give equal bytes. Knows nothing of automerge or of mergekit.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import tiny_tokenizer

# The sources and the size of their deltas, in deviations of the tensor: three like fine-tunes, and one far enough away
# for angles and divergences to stand well above rounding.
SOURCES = {"one": 0.02, "two": 0.02, "three": 0.02, "far": 2.0}
SAME = 0.1  # the share of a fine-tune's elements that is the base's
UNTOUCHED = ("two", "model.norm.weight")  # one tensor of one fine-tune is wholly the base's: its delta's norm is zero
# Copies of sources with added tokens, and so with more rows in the embeddings and the head.
ADDED = {"tools": ("one", ("<tool>", "<think>")), "ends": ("two", ("<end>", "<think>", "<more>"))}
VOCABULARY = 128
Sizes = Mapping[str, Any]
SIZES: Sizes = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _llama(sizes: Sizes) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**sizes, tie_word_embeddings=False)


def _mistral(sizes: Sizes) -> Any:
    from transformers import MistralConfig

    return MistralConfig(**sizes, tie_word_embeddings=False, sliding_window=64)


def _qwen2(sizes: Sizes) -> Any:
    """Untied, with query, key and value biases."""
    from transformers import Qwen2Config

    return Qwen2Config(**sizes, tie_word_embeddings=False)


def _qwen2_5(sizes: Sizes) -> Any:
    """Qwen2's shape with tied embeddings, as the small Qwen2.5 models have."""
    from transformers import Qwen2Config

    return Qwen2Config(**sizes, tie_word_embeddings=True)


def _qwen3(sizes: Sizes) -> Any:
    """With query and key norms."""
    from transformers import Qwen3Config

    return Qwen3Config(**sizes, head_dim=sizes["hidden_size"] // 2, tie_word_embeddings=False)


def _gemma2(sizes: Sizes) -> Any:
    from transformers import Gemma2Config

    half = sizes["hidden_size"] // 2
    return Gemma2Config(**sizes, head_dim=half, query_pre_attn_scalar=half, sliding_window=64)


def _gemma3(sizes: Sizes) -> Any:
    from transformers import Gemma3TextConfig

    half = sizes["hidden_size"] // 2
    return Gemma3TextConfig(**sizes, head_dim=half, query_pre_attn_scalar=half, sliding_window=64)


def _phi3(sizes: Sizes) -> Any:
    """With fused query-key-value and gate-up projections."""
    from transformers import Phi3Config

    return Phi3Config(**sizes, tie_word_embeddings=False)


def _mixtral(sizes: Sizes) -> Any:
    from transformers import MixtralConfig

    return MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False)


def _qwen3_moe(sizes: Sizes) -> Any:
    from transformers import Qwen3MoeConfig

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": sizes["intermediate_size"]}
    return Qwen3MoeConfig(**sizes, **experts, head_dim=sizes["hidden_size"] // 2, tie_word_embeddings=False)


ARCHITECTURES: dict[str, Callable[[Sizes], Any]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen2.5": _qwen2_5,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
}
MIXTURES: dict[str, Callable[[Sizes], Any]] = {"mixtral": _mixtral, "qwen3_moe": _qwen3_moe}


def pico_family(root: Path, architecture: str) -> dict[str, Path]:
    """`root`/base, and a folder for each of SOURCES and of ADDED, of one architecture."""
    made = {"base": pico_base(root / "base", architecture)}
    first = 10 * list(ARCHITECTURES).index(architecture)
    for seed, (name, scale) in enumerate(SOURCES.items(), start=first):
        made[name] = pico_fine_tune(made["base"], root / name, seed, scale)
    for name, (source, tokens) in ADDED.items():
        made[name] = pico_with_tokens(made[source], root / name, tokens)
    return made


def pico_base(folder: Path, architecture: str, sizes: Sizes = SIZES) -> Path:
    """A base with a tokenizer, of one of ARCHITECTURES or MIXTURES. Norms and biases get values as well: fresh from the
    class they are all equal, and a delta of 0.02 × their deviation would be lost in bf16."""
    from transformers import AutoModelForCausalLM

    known = ARCHITECTURES | MIXTURES
    config = known[architecture](sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(list(known).index(architecture))
        model = AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.data.add_(0.5 * torch.randn(weight.shape))
    folder.mkdir(parents=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer(folder, VOCABULARY)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if settings.get("architectures") != [type(model).__name__]:
        raise RuntimeError(f"{folder}: the config names {settings.get('architectures')}, not {type(model).__name__}")
    return folder


def pico_fine_tune(base: Path, folder: Path, seed: int, scale: float) -> Path:
    """A copy of `base` moved by noise; a share of its elements stays exactly the base's."""
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(base / "model.safetensors")
    for name in sorted(tensors):
        weight = tensors[name].float()
        noise = torch.randn(weight.shape, generator=generator)
        noise *= torch.rand(weight.shape, generator=generator) >= SAME
        if (folder.name, name) == UNTOUCHED:
            continue
        moved = weight + scale * float(weight.std(correction=0)) * noise
        tensors[name] = moved.to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def pico_with_tokens(source: Path, folder: Path, tokens: tuple[str, ...]) -> Path:
    """A copy of `source` whose tokenizer has more tokens, each with a row of its own in the embeddings and the head."""
    from transformers import AutoTokenizer

    shutil.copytree(source, folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(list(tokens))
    tokenizer.save_pretrained(folder)
    generator = torch.Generator().manual_seed(len(tokens))
    tensors = load_file(source / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            rows = 0.02 * torch.randn(len(tokens), tensors[name].shape[1], generator=generator)
            tensors[name] = torch.cat([tensors[name], rows.to(torch.bfloat16)])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = VOCABULARY + len(tokens)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def pico_families(folders: pytest.TempPathFactory) -> Callable[[str], Mapping[str, Path]]:
    """`pico_family` of an architecture, made when it is first asked for."""

    @cache
    def get(architecture: str) -> Mapping[str, Path]:
        return pico_family(folders.mktemp(architecture), architecture)

    return get
