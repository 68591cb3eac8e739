"""One candidate, top to bottom: merge into the engine, ask the skills, average, compare with the gates."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from automerge.config import GateRule
from automerge.engine.base import Engine
from automerge.errors import EngineLost, MergeError
from automerge.evals.loaded import Half, LoadedSkill
from automerge.evals.run import evaluate_all, mean
from automerge.evals.store import AnswerStore
from automerge.gate.rules import violation
from automerge.recipe import Recipe
from automerge.records import Applied, ItemResult
from automerge.study.records import Record, SkillMean


@dataclass(frozen=True)
class Bench:
    """What every candidate is tried on: one engine, one set of skills, one store of answers."""

    engine: Engine
    skills: Mapping[str, LoadedSkill]
    store: AnswerStore
    on_block: Callable[[str, str, int, int], None]  # candidate's label, skill, items done, in all; may raise to stop


@dataclass(frozen=True)
class Trial:
    """A candidate's answers and scores on one half of the items, and what they cost."""

    applied: Applied
    results: dict[str, list[ItemResult]]  # by skill, in the fixed order of the items
    seconds: dict[str, float]

    def means(self) -> dict[str, SkillMean]:
        """Each skill's mean over its scored items."""
        found = {}
        for skill, results in self.results.items():
            value, unscored = mean(results)
            found[skill] = SkillMean(value, len(results) - unscored, unscored)
        return found


def try_recipe(bench: Bench, recipe: Recipe, label: str, half: Half, *, expected: str | None = None) -> Trial:
    """Merges and asks every skill; once more where the engine is lost, which asks again what had no answer yet.

    Raises MergeError where the served checksum is not the `expected` one, EngineLost where the engine is lost twice.
    """
    try:
        return _try_once(bench, recipe, label, half, expected)
    except EngineLost:
        return _try_once(bench, recipe, label, half, expected)


def _try_once(bench: Bench, recipe: Recipe, label: str, half: Half, expected: str | None) -> Trial:
    start = time.perf_counter()
    applied = bench.engine.apply(recipe)
    if expected is not None and applied.checksum != expected:
        raise MergeError(f"{label}: the merge has checksum {applied.checksum}, but {expected} was scored before")
    seconds = {"apply": applied.seconds, "engine": 0.0, "scoring": 0.0}

    def on_block(skill: str, done: int, items: int, generating: float, scoring: float) -> None:
        seconds["engine"] += generating
        seconds["scoring"] += scoring
        bench.on_block(label, skill, done, items)

    results = evaluate_all(
        bench.engine,
        applied.checksum,
        list(bench.skills.values()),
        half,
        bench.store,
        tokenizer=recipe.tokenizer,
        on_block=on_block,
    )
    seconds["total"] = time.perf_counter() - start
    return Trial(applied, results, seconds)


def record_of(
    recipe: Recipe,
    trial: Trial,
    objective: Mapping[str, float],
    gates: Sequence[GateRule],
    references: Mapping[str, Mapping[str, float]],
) -> Record:
    """The record of a candidate on search items. `references`: baseline → skill → mean, for the gates."""
    skills = trial.means()
    total = sum(objective.values())
    return Record(
        recipe=recipe.to_json(),
        checksum=trial.applied.checksum,
        objective=sum(weight * skills[name].mean for name, weight in objective.items()) / total,
        skills=skills,
        violations={str(gate): violation(gate, skills[gate.skill].mean, references) for gate in gates},
        tokens=sum(result.tokens for results in trial.results.values() for result in results),
        seconds=trial.seconds,
    )
