"""One candidate, top to bottom: merge into the engine, ask the skills, block by block, until enough is known."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from automerge.engine.base import Engine
from automerge.errors import EngineLost, MergeError
from automerge.evals.loaded import Half, LoadedSkill
from automerge.evals.run import evaluate_all, mean
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import Scores, as_scores
from automerge.recipe import Recipe
from automerge.records import Applied, ItemResult
from automerge.study.records import SkillMean


class Watch(Protocol):
    """Decides, while a candidate is asked, whether it is worth going on. Returns why not, or None."""

    def after_tier(self, likelihoods: Mapping[str, float]) -> str | None: ...
    def after_block(self, scores: Mapping[str, Scores]) -> str | None: ...


@dataclass(frozen=True)
class Trial:
    """A candidate's results on one half of the items, and what they cost. `stopped` says why it was not asked all."""

    applied: Applied
    results: dict[str, list[ItemResult]]  # by skill, in the fixed order of the items
    seconds: dict[str, float]
    likelihoods: dict[str, float]  # mean likelihood of the cheap tier, by skill; empty without a tier
    stopped: str = ""

    def means(self) -> dict[str, SkillMean]:
        """Each skill's mean over its scored items."""
        found = {}
        for skill, results in self.results.items():
            value, unscored = mean(results)
            found[skill] = SkillMean(value, len(results) - unscored, unscored)
        return found

    def scores(self) -> dict[str, Scores]:
        """Skill → scores so far."""
        return {skill: as_scores(results) for skill, results in self.results.items()}

    @property
    def tokens(self) -> int:
        """Generated."""
        return sum(result.tokens for results in self.results.values() for result in results)


@dataclass(frozen=True)
class Attempt:
    """What is to be tried, and how: on which half, with the cheap `tier` first or not, and what may stop it.

    `expected` is the checksum the merge must have, where it was scored before.
    """

    recipe: Recipe
    label: str
    half: Half = "search"
    expected: str | None = None
    watch: Watch | None = None
    tier: bool = False


class Candidates(Protocol):
    """Where candidates are tried: `Bench`, or a recorded landscape that stands for it in simulations."""

    @property
    def width(self) -> int:
        """How many candidates can be tried at a time."""
        ...

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """(search items, blocks) of each skill."""
        ...

    @property
    def has_tier(self) -> bool:
        """Whether there is a cheap tier at all."""
        ...

    def attempt(self, asked: Attempt) -> Trial:
        """Tries one candidate."""
        ...

    def search_scores(self, checksum: str) -> dict[str, Scores]:
        """Skill → scores (n,) of a candidate that was tried."""
        ...

    def halt(self) -> None:
        """Ends what is being tried, from another thread."""
        ...


@dataclass(frozen=True)
class Bench:
    """What every candidate is tried on: one engine, one set of skills, one store of answers.

    `tier`: the cheap companions of those skills that have one, by the name of the skill they stand for.
    """

    engine: Engine
    skills: Mapping[str, LoadedSkill]
    tier: Mapping[str, LoadedSkill]
    store: AnswerStore
    on_block: Callable[[str, str, int, int], None]  # candidate's label, skill, items done, in all; may raise to stop

    width = 1

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """(search items, blocks) of each skill."""
        counts = {name: len(skill.half("search")) for name, skill in self.skills.items()}
        return {name: (n, -(-n // self.skills[name].skill.block)) for name, n in counts.items()}

    @property
    def has_tier(self) -> bool:
        """Whether a skill has a cheap companion."""
        return bool(self.tier)

    def attempt(self, asked: Attempt) -> Trial:
        """Merges and asks every skill; once more where the engine is lost, which asks again what had no answer yet.

        Raises MergeError where the served checksum is not the `expected` one, EngineLost where the engine is lost
        twice.
        """
        try:
            return self._attempt(asked)
        except EngineLost:
            return self._attempt(asked)

    def halt(self) -> None:
        """Closes the engine."""
        self.engine.close()

    def search_scores(self, checksum: str) -> dict[str, Scores]:
        """Skill → scores (n,) of all search items as the store has them, NaN where it has none. Asks nothing."""
        found = {}
        for name, skill in self.skills.items():
            known = self.store.item_scores(checksum, name)
            values = [[known.get(key) for key in skill.stored_names(item)] for item in skill.half("search")]
            scored = [[value for value in rounds if value is not None] for rounds in values]
            found[name] = np.array([np.mean(rounds) if rounds else np.nan for rounds in scored])
        return found

    def _attempt(self, asked: Attempt) -> Trial:
        start = time.perf_counter()
        label, watch = asked.label, asked.watch
        applied = self.engine.apply(asked.recipe)
        if asked.expected is not None and applied.checksum != asked.expected:
            found, wanted = applied.checksum, asked.expected
            raise MergeError(f"{label}: the merge has checksum {found}, but {wanted} was scored before")
        seconds = {"apply": applied.seconds, "engine": 0.0, "scoring": 0.0}

        def on_block(skill: str, done: int, items: int, generating: float, scoring: float) -> None:
            seconds["engine"] += generating
            seconds["scoring"] += scoring
            self.on_block(label, skill, done, items)

        def ask(
            skills: Sequence[LoadedSkill], enough: Callable[[Mapping[str, Sequence[ItemResult]]], bool] | None = None
        ) -> dict[str, list[ItemResult]]:
            return evaluate_all(
                self.engine,
                applied.checksum,
                skills,
                asked.half,
                self.store,
                tokenizer=asked.recipe.tokenizer,
                on_block=on_block,
                enough=enough,
            )

        reason: str | None = None
        likelihoods: dict[str, float] = {}
        results: dict[str, list[ItemResult]] = {name: [] for name in self.skills}
        if asked.tier:
            cheap = ask(list(self.tier.values()))
            likelihoods = {name: mean(cheap[skill.name])[0] for name, skill in self.tier.items()}
            reason = watch.after_tier(likelihoods) if watch else None

        def enough(so_far: Mapping[str, Sequence[ItemResult]]) -> bool:
            nonlocal reason
            reason = watch.after_block({skill: as_scores(found) for skill, found in so_far.items()}) if watch else None
            return reason is not None

        if reason is None:
            results = ask(list(self.skills.values()), enough)
        seconds["total"] = time.perf_counter() - start
        return Trial(applied, results, seconds, likelihoods, reason or "")
