"""Tiny models with vocabularies of their own, and what a merge of them must give, worked out by token string."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from automerge.merge import Models
from automerge.recipe import Recipe, TokenRule, Vocabulary, make_recipe
from tests.merge.helpers import edit_json, recipe_of
from tests.tiny import tiny_llama

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WEIGHTS = "model.safetensors"
COMMON = ["<pad>", "<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz .,:\n0123456789"]


def speaker(
    folder: Path,
    tokens: Sequence[str],
    rows: int = 0,
    *,
    seed: int = 0,
    roles: Mapping[str, str] | None = None,
    template: str | None = None,
    dtype: torch.dtype = torch.float32,
    tied: bool = False,
) -> Path:
    """A tiny Llama of `rows` embedding rows (0: as many as tokens), whose tokenizer has these tokens, in this order."""
    tiny_llama(folder, seed=seed, hidden=16, vocab=rows or len(tokens), dtype=dtype, tied=tied)
    write_tokenizer(folder, tokens, roles, template)
    return folder


def write_tokenizer(
    folder: Path, tokens: Sequence[str], roles: Mapping[str, str] | None = None, template: str | None = None
) -> None:
    """Single characters are ordinary tokens; longer ones stand in angle brackets and are special. Config ids follow."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(token, normalized=False) for token in tokens if len(token) > 1])
    given = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **(roles or {})}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **given)
    tokenizer.chat_template = template
    for path in folder.glob("chat_template*"):
        path.unlink()
    tokenizer.save_pretrained(folder)
    if (folder / "config.json").exists():
        ids = {f"{role}_id": list(tokens).index(given[role]) for role in ("pad_token", "bos_token", "eos_token")}
        edit_json(folder / "config.json", **ids)
        edit_json(folder / "generation_config.json", **ids)


def untie(folder: Path, seed: int = 9) -> None:
    """Gives a tied model a head of its own."""
    tensors = load_file(folder / WEIGHTS)
    noise = torch.randn(tensors[EMBED].shape, generator=torch.Generator().manual_seed(seed))
    save_file({**tensors, HEAD: (tensors[EMBED] + 0.1 * noise).to(tensors[EMBED].dtype)}, folder / WEIGHTS)
    edit_json(folder / "config.json", tie_word_embeddings=False)


def speaking(models: Models, method: str, values: Mapping[str, Any], tokenizer: str = "base", **more: Any) -> Recipe:
    """A recipe of one group; `tokens` (token → rule, or a model: all take its row) and `pad_to_multiple_of` make its
    vocabulary."""
    recipe = recipe_of(models, method, values, dtype=more.pop("dtype", "float32"))
    rules, multiple = more.pop("tokens", {}), more.pop("pad_to_multiple_of", 0)
    rules = {token: rule if isinstance(rule, TokenRule) else TokenRule(rule) for token, rule in rules.items()}
    return make_recipe(
        method=recipe.method,
        base=recipe.base,
        sources=recipe.sources,
        groups=recipe.groups,
        options=more.pop("options", {}),
        dtype=recipe.dtype,
        seed=recipe.seed,
        tokenizer=tokenizer,
        vocabulary=Vocabulary(rules, multiple) if rules or multiple else None,
        **more,
    )


def rows_by_token(folder: Path, tensor: str = EMBED) -> dict[str, torch.Tensor]:
    """token → fp32 row, read without automerge."""
    values = load_file(folder / WEIGHTS)
    table = values.get(tensor, values[EMBED]).float()
    return {token: table[number] for token, number in ids_of(folder).items() if number < len(table)}


def ids_of(folder: Path) -> dict[str, int]:
    """token → id, as transformers has it."""
    found: dict[str, int] = AutoTokenizer.from_pretrained(folder).get_vocab()
    return found


def copy_without(folder: Path, out: Path, *names: str) -> Path:
    shutil.copytree(folder, out)
    for name in names:
        (out / name).unlink()
    return out


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found
