"""Studies on a recorded landscape: our own search, gates and verdict, with a table in the engine's place."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import optuna
from numpy.typing import NDArray

from automerge.evals.loaded import Half
from automerge.gate.statistics import Scores
from automerge.recipe import Recipe
from automerge.records import Applied, ItemResult, Score
from automerge.study.trial import Attempt, Trial
from search.landscape import Landscape, Scored

Alter = Callable[[str, Mapping[str, float], Scored], Scored]  # (checksum, params, as recorded) → as replayed


def params_of(recipe: Recipe) -> dict[str, float]:
    """The point of a recipe that weighs and drops whole sources."""
    values = recipe.groups[0].values
    found: dict[str, float] = {}
    for parameter in ("weight", "drop"):
        given = values.get(parameter, 0.0)
        for source in (ref.name for ref in recipe.sources):
            number = given if isinstance(given, float | int) else given[source]
            found[f"{parameter}.{source}"] = float(number)
    return found


@dataclass
class Replay:
    """Stands for study.trial.Bench. Each seed has items, halves and an order of its own."""

    landscape: Landscape
    seed: int
    search_items: int = 120  # a skill
    held_out_items: int = 400
    block: int = 20
    has_tier: bool = True
    alter: Alter = lambda checksum, params, scored: scored
    tokens: int = 0  # generated for search items, so far
    asked: list[tuple[int, str]] = field(default_factory=list)  # (tokens so far, checksum), a candidate
    _scored: dict[str, Scored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self._halves: dict[Half, dict[str, NDArray[np.int64]]] = {"search": {}, "held_out": {}}
        for number, skill in enumerate(self.landscape.skills):
            order = random.permutation(np.flatnonzero(self.landscape.skill == number))
            self._halves["search"][skill] = order[: self.search_items]
            self._halves["held_out"][skill] = order[self.search_items : self.search_items + self.held_out_items]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(self.landscape.skills, (self.search_items, -(-self.search_items // self.block)))

    width = 1

    def attempt(self, asked: Attempt) -> Trial:
        checksum, watch = self._apply(asked.recipe), asked.watch
        scored = self._scored[checksum]
        items = self._halves[asked.half]
        likelihoods: dict[str, float] = {}
        results: dict[str, list[ItemResult]] = {skill: [] for skill in items}
        reason: str | None = None
        if asked.tier:
            likelihoods = {skill: float(scored.likely[own].mean()) for skill, own in items.items()}
            reason = watch.after_tier(likelihoods) if watch else None
        done = dict.fromkeys(items, 0)
        while reason is None and any(done[skill] < len(own) for skill, own in items.items()):
            skill = min(items, key=lambda name: done[name] / len(items[name]))
            chosen = items[skill][done[skill] : done[skill] + self.block]
            results[skill] += [
                ItemResult(skill, str(i), "", "", int(scored.tokens[i]), Score(float(scored.right[i]))) for i in chosen
            ]
            done[skill] += len(chosen)
            if watch and all(done.values()):
                reason = watch.after_block({s: scored.right[own[: done[s]]] for s, own in items.items()})
        trial = Trial(Applied(checksum, 0.0, 0), results, {"total": 0.0}, likelihoods, reason or "")
        if asked.half == "search":
            self.tokens += trial.tokens
            self.asked.append((self.tokens, checksum))
        return trial

    def halt(self) -> None:
        """Nothing runs beside it."""

    def search_scores(self, checksum: str) -> dict[str, Scores]:
        return {skill: self._scored[checksum].right[own] for skill, own in self._halves["search"].items()}

    def objective(self, checksum: str, half: Half) -> float:
        """The mean over skills."""
        return float(np.mean([self._scored[checksum].right[own].mean() for own in self._halves[half].values()]))

    def _apply(self, recipe: Recipe) -> str:
        checksum = hashlib.sha256(f"{self.seed} {recipe.hash}".encode()).hexdigest()[:32]
        if checksum not in self._scored:
            params = params_of(recipe)
            self._scored[checksum] = self.alter(checksum, params, self.landscape.at(params))
        return checksum


def new_study(objectives: int = 1) -> optuna.Study:
    """In memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(directions=["maximize"] * objectives)
