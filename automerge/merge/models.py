"""The base and its sources, found, checked and open: everything a merge reads. It knows no method.

Every check runs before the first tensor is merged: kind and format of the files, fit to the base, finite values,
digest.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automerge.errors import SourceError
from automerge.merge.embeddings import HEAD, rows_of
from automerge.merge.frame import Frame
from automerge.merge.layout import count_layers, in_order
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.compat import check_described, check_fits, check_rows, merged_shapes, unlike
from automerge.merge.sources.digest import digest
from automerge.merge.sources.folder import ADAPTER_CONFIG, is_adapter, read_bytes
from automerge.merge.sources.locate import locate
from automerge.merge.sources.lora import LoraAdapter
from automerge.merge.sources.lora_vocabulary import adapted_shapes
from automerge.merge.sources.source import Source
from automerge.merge.sparse.frame import sparse
from automerge.merge.sparse.rows import NO_ROWS
from automerge.merge.stack import stacked
from automerge.merge.vocabulary.merged import MergedTokenizer, Speaker
from automerge.merge.vocabulary.reindex import reindexed, untied
from automerge.merge.vocabulary.rows import RowMap
from automerge.merge.vocabulary.tokenizers import (
    SETTINGS,
    SPECIAL,
    TEMPLATE,
    VOCABULARY_FILES,
    check_vocabularies,
    has_tokenizer,
)
from automerge.recipe import UNION, ModelRef, Recipe

Progress = Callable[[str], None]  # takes one line that says what is being done
Shapes = Mapping[str, tuple[int, ...]]

RENDERING_FILES = (*VOCABULARY_FILES, SETTINGS, TEMPLATE, SPECIAL)


@dataclass(frozen=True)
class Models:
    """Open models. `tensor_names` and `shapes` are the base's tensors: embeddings, layers by number, norm and head.

    `source_shapes` are each source's own, where a vocabulary's size or a head of its own sets it apart. `router` is the
    file of router rows, where sparse models are made of these, once it is there.
    """

    base: Checkpoint
    sources: Mapping[str, Source]  # sorted by name
    base_ref: ModelRef
    source_refs: tuple[ModelRef, ...]  # sorted by name
    tensor_names: tuple[str, ...]
    shapes: Shapes
    n_layers: int
    source_shapes: Mapping[str, Shapes] = field(default_factory=dict)
    router: ModelRef = NO_ROWS
    _frames: dict[Any, Frame] = field(default_factory=dict, repr=False)
    _kept: dict[Any, dict[Any, Any]] = field(default_factory=dict, repr=False)  # Frame.kept, by what was measured
    _tokenizers: dict[Any, MergedTokenizer] = field(default_factory=dict, repr=False)
    _speakers: dict[str, Speaker] = field(default_factory=dict, repr=False)

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
        if one == other or UNION in (one, other):
            return one == other
        folders = [self.folder_of(name) for name in (one, other)]
        if folders[0] == folders[1]:
            return True
        return all(_bytes(folders[0] / file) == _bytes(folders[1] / file) for file in RENDERING_FILES)

    def rows(self, name: str) -> int | None:
        """The rows of a model's input embedding; None where it has none that is known."""
        return rows_of(self._shapes_of(name))

    def token_ids(self, name: str) -> dict[str, Any]:
        """The ids that the model's config.json and generation_config.json give: key → ids, an adapter's the base's."""
        return self._speaker(name).token_ids or self._speaker(self.base_ref.name).token_ids

    def row_map(self, recipe: Recipe) -> RowMap | None:
        """Which rows of whose embeddings a merge of the recipe takes; None where each model's lie as they are. Raises
        as `frame` does."""
        return self._tokenizer(recipe).row_map

    def folder_of(self, name: str) -> Path:
        """The folder whose tokenizer and chat template the model uses: `base`, or a source's name. An adapter without
        a tokenizer uses the base's. Raises SourceError for an unknown name."""
        if name in ("base", self.base_ref.name):
            return self.base.folder
        folder = self._source(name).folder
        return folder if has_tokenizer(folder) else self.base.folder

    def tokenizer_folder(self, recipe: Recipe) -> Path:
        """The folder whose tokenizer and chat template a merge of the recipe uses: a model's, or one made for it in the
        cache. Raises ConfigError or SourceError as `frame` does, SourceError where the cache cannot be written."""
        return self._tokenizer(recipe).folder()

    def generation_config(self, recipe: Recipe) -> dict[str, Any] | None:
        """generation_config.json of a merge of the recipe; None where the models have none. Raises as `frame` does."""
        return self._tokenizer(recipe).generation_config()

    def notes(self, recipe: Recipe) -> list[str]:
        """What of the models a merge of the recipe does not keep in its embeddings and tokenizer, a line each. Raises
        as `frame` does."""
        told = self._tokenizer(recipe).notes()
        for ref in recipe.sources:
            source = self._source(ref.name)
            if isinstance(source, Checkpoint):
                told += [f"{ref.name}: {line}" for line in unlike(self.base, source)]
        tied = [name for name in (recipe.base.name, *_spoken(recipe)[0]) if HEAD not in self._shapes_of(name)]
        if tied and HEAD in self.frame(recipe).shapes:
            told.append(f"the merge has a head of its own, which {', '.join(tied)} tied to the embedding")
        return told

    def frame(self, recipe: Recipe) -> Frame:
        """What a merge of the recipe gives, and where each model's part lies. Frames are kept from call to call.

        Where only some of the models tie their head to their embedding, the merge has a head of its own, and the head
        of a tied model is its embedding. Raises ConfigError or SourceError where the recipe's slices, tokenizer,
        vocabulary or mixture do not fit these models.
        """
        stack = [tuple(sorted(part.layers.items())) for part in recipe.slices]
        key = (*_spoken(recipe), recipe.method, *recipe.options.items(), *stack) if stack else _spoken(recipe)
        if recipe.mixture is not None:
            key = (*key, replace(recipe.mixture, temperature=1.0))
        if key not in self._frames:
            self._frames[key] = sparse(stacked(self._whole(recipe), recipe), recipe)
        return self._frames[key]

    def _whole(self, recipe: Recipe) -> Frame:
        """Every layer of every model, one to one, in the merge's vocabulary."""
        tokenizer = self._tokenizer(recipe)
        sources = {source.name: self._source(source.name) for source in recipe.sources}
        frame = Frame(
            names=self.tensor_names,
            shapes=self.shapes,
            n_layers=self.n_layers,
            config=tokenizer.config(self.config),
            base=self.base,
            sources=sources,
            kept=self._kept.setdefault(_spoken(recipe) if tokenizer.row_map else tuple(sources), {}),
        )
        shapes = {recipe.base.name: self.shapes, **{name: self._shapes_of(name) for name in sources}}
        frame = untied(frame, recipe.base.name, shapes)
        return frame if tokenizer.row_map is None else reindexed(frame, tokenizer.row_map, shapes)

    def _tokenizer(self, recipe: Recipe) -> MergedTokenizer:
        key = (*_spoken(recipe), recipe.chat_template)
        if key not in self._tokenizers:
            base, *sources = [self._speaker(name) for name in (recipe.base.name, *_spoken(recipe)[0])]
            self._tokenizers[key] = MergedTokenizer(
                base, sources, recipe.tokenizer, recipe.vocabulary, recipe.chat_template
            )
        return self._tokenizers[key]

    def _speaker(self, name: str) -> Speaker:
        if name not in self._speakers:
            source = self.base if name == self.base_ref.name else self._source(name)
            rows, adapter = rows_of(self._shapes_of(name)), isinstance(source, LoraAdapter)
            self._speakers[name] = Speaker(name, source.folder, rows, {} if adapter else source.config, adapter)
        return self._speakers[name]

    def _shapes_of(self, name: str) -> Shapes:
        return self.source_shapes.get(name, self.shapes)

    def _source(self, name: str) -> Source:
        if name not in self.sources:
            known = ", ".join(["base", *self.sources])
            raise SourceError(f"no model is named {name!r}", hint=f"Known: {known}.")
        return self.sources[name]

    def give_back(self) -> None:
        """Unmaps what was read of the checkpoints, see sources/pages.py."""
        for model in (self.base, *self.sources.values()):
            if isinstance(model, Checkpoint):
                model.give_back()

    def sizes(self) -> dict[str, int]:
        """Model → bytes of its weight files, the base first."""
        models: dict[str, Source] = {self.base_ref.name: self.base, **self.sources}
        return {name: sum(path.stat().st_size for path in _files(model)) for name, model in models.items()}

    def full_bytes(self) -> int:
        """What the base and the full checkpoints among the sources take."""
        return sum(size for name, size in self.sizes().items() if not isinstance(self.sources.get(name), LoraAdapter))

    def digested(self, progress: Progress | None = None) -> "Models":
        """The same, with their content digests: every weight is read. Raises SourceError for NaN or infinity."""

        def read(ref: ModelRef, source: Source) -> ModelRef:
            return replace(ref, digest=digest(_files(source), progress))

        sources = tuple(read(ref, self.sources[ref.name]) for ref in self.source_refs)
        return replace(self, base_ref=read(self.base_ref, self.base), source_refs=sources)

    def sealed(self, recipe: Recipe) -> Recipe:
        """The recipe, with what the models' tokenizers add to its content; raises as `frame` does."""
        return replace(recipe, rows=self._tokenizer(recipe).rows)

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
        if recipe.rows and recipe.rows != self._tokenizer(recipe).rows:
            message = "the models' tokens lie at other rows of their embeddings than the recipe's did"
            where = str(self.base.folder)
            raise SourceError(message, where=where, hint="A tokenizer has changed since; find the old ones.")


def open_models(
    base: str, sources: Mapping[str, str], *, base_name: str = "base", progress: Progress | None = None
) -> Models:
    """Finds, checks and opens a base and its sources (name → local folder or hub id). Raises SourceError."""
    return find_models(base, sources, base_name=base_name).digested(progress)


def find_models(base: str, sources: Mapping[str, str], *, base_name: str = "base") -> Models:
    """As `open_models`, before any weight is read: there are no digests yet, see Models.digested."""
    folder = locate(base)
    if is_adapter(folder):
        raise SourceError("the base is an adapter", where=base, hint="Name the full model it was made for.")
    root = Checkpoint(folder)
    check_described(root)
    shapes = merged_shapes(root, root)
    check_rows(shapes, str(folder))
    opened: dict[str, Source] = {}
    own_shapes: dict[str, Shapes] = {}
    for name in sorted(sources):
        opened[name], own_shapes[name] = _open_source(locate(sources[name]), root, shapes)
    return Models(
        base=root,
        sources=opened,
        base_ref=ModelRef(base_name, base, ""),
        source_refs=tuple(ModelRef(name, sources[name], "") for name in opened),
        tensor_names=tuple(in_order(shapes)),
        shapes=shapes,
        n_layers=count_layers(shapes),
        source_shapes=own_shapes,
    )


def models_of(recipe: Recipe, *, progress: Progress | None = None) -> Models:
    """Opens a recipe's models from their paths. Raises SourceError where a path is empty or the content differs."""
    for ref in (recipe.base, *recipe.sources):
        if not ref.path:
            raise SourceError(f"the recipe does not say where {ref.name} is", hint='Add its "path".')
    models = find_models(recipe.base.path, {ref.name: ref.path for ref in recipe.sources}, base_name=recipe.base.name)
    models.frame(recipe)
    models = models.digested(progress)
    models.check(recipe)
    return models


def _open_source(folder: Path, base: Checkpoint, shapes: Shapes) -> tuple[Checkpoint | LoraAdapter, Shapes]:
    """The source, and the shapes of its tensors that take part."""
    if is_adapter(folder):
        own = adapted_shapes(folder, shapes)
        check_vocabularies(shapes, own, base.folder, folder)
        return LoraAdapter(folder, base, own), own
    source = Checkpoint(folder)
    check_described(source)
    own = check_fits(base, source)
    check_vocabularies(shapes, own, base.folder, folder)
    return source, own


def _spoken(recipe: Recipe) -> tuple[Any, ...]:
    """What a frame depends on, slices apart; the names of the sources come first."""
    rules = recipe.vocabulary
    vocabulary = (tuple(sorted(rules.tokens.items())), rules.pad_to_multiple_of) if rules else ()
    return (tuple(source.name for source in recipe.sources), recipe.tokenizer, vocabulary)


def _bytes(path: Path) -> bytes | None:
    return read_bytes(path) if path.exists() else None


def _files(source: Source) -> list[Path]:
    if isinstance(source, LoraAdapter):
        return [source.path, source.folder / ADAPTER_CONFIG]
    assert isinstance(source, Checkpoint)
    return list(source.files.values())
