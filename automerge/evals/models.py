"""Scores a checkpoint, or an adapter over its base, on skills: what eval, compare and gate have in common."""

from collections.abc import Sequence

from automerge.config import EngineConfig
from automerge.evals.loaded import Half, LoadedSkill
from automerge.evals.run import evaluate
from automerge.evals.scorers import refuse_outside_study
from automerge.evals.serve import serve
from automerge.evals.store import AnswerStore
from automerge.records import ItemResult


def evaluate_model(
    model: str, base: str | None, skills: Sequence[LoadedSkill], half: Half, store: AnswerStore, serving: EngineConfig
) -> dict[str, list[ItemResult]]:
    """Skill → results in the skill's order. The model is asked in its own chat template; `base` is what an adapter was
    made for. Raises SourceError, EngineError, SkillError."""
    for skill in skills:
        refuse_outside_study(skill.scorer, skill.name)
    served = serve(model, base, serving)
    try:
        store.keep_name(served.checksum, model)
        return {
            s.name: evaluate(served.engine, served.checksum, s, half, store, tokenizer=served.place) for s in skills
        }
    finally:
        served.engine.close()
