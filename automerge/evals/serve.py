"""Serves one checkpoint, or an adapter over its base, as it is: the linear merge of itself alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from automerge.config import EngineConfig, locate
from automerge.engine.base import Engine
from automerge.engine.start import start_engine
from automerge.merge.models import find_models, open_models
from automerge.merge.sources.folder import is_adapter
from automerge.recipe import Group, Recipe, make_recipe


@dataclass(frozen=True)
class Served:
    """A model in an engine of its own, ready to be asked. `place` is its folder."""

    engine: Engine
    checksum: str
    place: str


def check_models(models: Sequence[str], base: str | None) -> None:
    """Raises SourceError for one that cannot be found or opened, before any is served."""
    for model in models:
        place, root = _places(model, base)
        find_models(root, {"model": place})


def _places(model: str, base: str | None) -> tuple[str, str]:
    """Where it lies, and what it is merged into: itself, or an adapter's base."""
    place = locate(model, Path())
    return place, locate(base, Path()) if base and is_adapter(Path(place)) else place


def serve(model: str, base: str | None, serving: EngineConfig) -> Served:
    """Starts an engine with this model; `base` is what an adapter was made for. Raises SourceError, EngineError."""
    place, root = _places(model, base)
    opened = open_models(root, {"model": place})
    whole = (Group((0, opened.n_layers), "all", {"weight": {"model": 1.0}}),)
    recipe: Recipe = make_recipe(
        method="linear",
        base=opened.base_ref,
        sources=tuple(opened.source_refs),
        groups=whole,
        options={"normalize": True},
        dtype=opened.dtype,
        seed=0,
        tokenizer="model",
    )
    recipe = opened.sealed(recipe)
    engine = start_engine(opened, serving)
    try:
        return Served(engine, engine.apply(recipe).checksum, place)
    except BaseException:
        engine.close()
        raise
