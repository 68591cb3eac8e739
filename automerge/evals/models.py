"""Scores a checkpoint, or an adapter over its base, on skills: what eval, compare and gate have in common."""

from collections.abc import Sequence
from pathlib import Path

from automerge.config import EngineConfig, locate
from automerge.engine.start import start_engine
from automerge.evals.loaded import Half, LoadedSkill
from automerge.evals.run import evaluate
from automerge.evals.store import AnswerStore
from automerge.merge.models import open_models
from automerge.recipe import Group, make_recipe
from automerge.records import ItemResult


def evaluate_model(
    model: str, base: str | None, skills: Sequence[LoadedSkill], half: Half, store: AnswerStore, serving: EngineConfig
) -> dict[str, list[ItemResult]]:
    """Skill → results in the skill's order. The model is served as the linear merge of itself alone, and asked in its
    own chat template; `base` is what an adapter was made for. Raises SourceError, EngineError, SkillError."""
    place = locate(model, Path())
    root = locate(base, Path()) if base and (Path(place) / "adapter_config.json").exists() else place
    opened = open_models(root, {"model": place})
    whole = (Group((0, opened.n_layers), "all", {"weight": {"model": 1.0}}),)
    recipe = make_recipe(
        method="linear",
        base=opened.base_ref,
        sources=tuple(opened.source_refs),
        groups=whole,
        options={"normalize": True},
        dtype=opened.dtype,
        seed=0,
        tokenizer="model",
    )
    engine = start_engine(opened, serving)
    try:
        applied = engine.apply(recipe)
        return {s.name: evaluate(engine, applied.checksum, s, half, store, tokenizer=place) for s in skills}
    finally:
        engine.close()
