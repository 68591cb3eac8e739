"""The base and its sources, found, checked and open: everything a merge reads. It knows no method.

Every check runs before the first tensor is merged: kind and format of the files, fit to the base, finite values,
digest.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automerge.errors import SourceError
from automerge.merge.layout import count_layers, in_order
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.compat import check_fits, merged_shapes
from automerge.merge.sources.digest import digest
from automerge.merge.sources.folder import ADAPTER_CONFIG, is_adapter
from automerge.merge.sources.locate import locate
from automerge.merge.sources.lora import LoraAdapter
from automerge.recipe import ModelRef, Recipe

Source = Checkpoint | LoraAdapter
Progress = Callable[[str], None]  # takes one line that says what is being done

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


RENDERING_FILES = (*TOKENIZER_FILES, "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


@dataclass(frozen=True)
class Models:
    """Open models. `tensor_names` is the order of the merge: embeddings, layers by number, final norm and head."""

    base: Checkpoint
    sources: Mapping[str, Source]  # sorted by name
    base_ref: ModelRef
    source_refs: tuple[ModelRef, ...]  # sorted by name
    tensor_names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    n_layers: int

    @property
    def config(self) -> dict[str, Any]:
        """The base's config.json."""
        return self.base.config

    @property
    def dtype(self) -> str:
        """The dtype most of the base's values are stored in: float32, bfloat16 or float16."""
        sizes: Counter[str] = Counter()
        for name, shape in self.shapes.items():
            sizes[str(self.base.dtypes[name]).removeprefix("torch.")] += math.prod(shape)
        return sizes.most_common(1)[0][0]

    def same_tokenizer(self, one: str, other: str) -> bool:
        """Whether two models render and encode a prompt alike: their tokenizer files and templates are equal."""
        folders = [self.folder_of(name) for name in (one, other)]
        if folders[0] == folders[1]:
            return True
        return all(_bytes(folders[0] / file) == _bytes(folders[1] / file) for file in RENDERING_FILES)

    def folder_of(self, name: str) -> Path:
        """The folder whose tokenizer and chat template the model uses: `base`, or a source's name. An adapter without
        a tokenizer uses the base's. Raises SourceError for an unknown name."""
        if name in ("base", self.base_ref.name):
            return self.base.folder
        if name not in self.sources:
            known = ", ".join(["base", *self.sources])
            raise SourceError(f"no model is named {name!r}", hint=f"Known: {known}.")
        folder = self.sources[name].folder
        return folder if any((folder / file).exists() for file in TOKENIZER_FILES) else self.base.folder

    def check(self, recipe: Recipe) -> None:
        """Raises SourceError where these are not, by content, the models the recipe names."""
        theirs = {ref.name: ref.digest for ref in (recipe.base, *recipe.sources)}
        ours = {ref.name: ref.digest for ref in (self.base_ref, *self.source_refs)}
        for name, wanted in theirs.items():
            if name not in ours:
                raise SourceError(f"the recipe names {name}, which is not open", hint=f"Open: {', '.join(ours)}.")
            if ours[name] != wanted:
                where = next(ref.path for ref in (self.base_ref, *self.source_refs) if ref.name == name)
                message = f"{name} differs from the recipe's: expected digest {wanted[:12]}, got {ours[name][:12]}"
                raise SourceError(message, where=where, hint="Its weights have changed since; find the old ones.")


def open_models(
    base: str, sources: Mapping[str, str], *, base_name: str = "base", progress: Progress | None = None
) -> Models:
    """Finds, checks and opens a base and its sources (name → local folder or hub id). Raises SourceError."""
    folder = locate(base)
    if is_adapter(folder):
        raise SourceError("the base is an adapter", where=base, hint="Name the full model it was made for.")
    root = Checkpoint(folder)
    shapes = merged_shapes(root, root)
    opened: dict[str, Source] = {}
    refs = []
    for name in sorted(sources):
        source = _open_source(locate(sources[name]), root, shapes)
        opened[name] = source
        refs.append(ModelRef(name, sources[name], digest(_files(source), progress)))
    return Models(
        base=root,
        sources=opened,
        base_ref=ModelRef(base_name, base, digest(_files(root), progress)),
        source_refs=tuple(refs),
        tensor_names=tuple(in_order(shapes)),
        shapes=shapes,
        n_layers=count_layers(shapes),
    )


def models_of(recipe: Recipe, *, progress: Progress | None = None) -> Models:
    """Opens a recipe's models from their paths. Raises SourceError where a path is empty or the content differs."""
    for ref in (recipe.base, *recipe.sources):
        if not ref.path:
            raise SourceError(f"the recipe does not say where {ref.name} is", hint='Add its "path".')
    models = open_models(
        recipe.base.path,
        {ref.name: ref.path for ref in recipe.sources},
        base_name=recipe.base.name,
        progress=progress,
    )
    models.check(recipe)
    return models


def _open_source(folder: Path, base: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> Source:
    if is_adapter(folder):
        return LoraAdapter(folder, shapes)
    source = Checkpoint(folder)
    check_fits(base, source)
    return source


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _files(source: Source) -> list[Path]:
    if isinstance(source, LoraAdapter):
        return [source.path, source.folder / ADAPTER_CONFIG]
    return list(source.files.values())
