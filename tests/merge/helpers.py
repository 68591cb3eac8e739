"""Short ways to a recipe, a merged model and an odd checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from automerge.merge import Merge, Models
from automerge.recipe import Group, Recipe, Value, make_recipe


def recipe_of(
    models: Models,
    method: str,
    values: Mapping[str, Value] | None = None,
    *,
    groups: tuple[Group, ...] | None = None,
    options: Mapping[str, bool] | None = None,
    dtype: str = "float32",
    seed: int = 0,
    tokenizer: str = "base",
) -> Recipe:
    return make_recipe(
        method=method,
        base=models.base_ref,
        sources=models.source_refs,
        groups=groups or (Group((0, models.n_layers), "all", values or {}),),
        options=options or {},
        dtype=dtype,
        seed=seed,
        tokenizer=tokenizer,
    )


def merged(recipe: Recipe, models: Models, **how: Any) -> tuple[dict[str, torch.Tensor], str]:
    merge = Merge(recipe, models, **how)
    return dict(merge.tensors()), merge.checksum


def write_model(folder: Path, tensors: Mapping[str, torch.Tensor], **config: Any) -> Path:
    """Of no kind that transformers knows: no tensor is expected of it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    settings = {"model_type": "odd", "architectures": ["OddForCausalLM"], **config}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))
