"""How far a candidate climbs: cheap tier, then block after block of the items, as long as it may still be the best.

It knows every finished candidate's means and, item by item, the scores of the incumbent (the best that meets the gates
and was asked everything) and of the baselines that gates refer to. What it decides depends on finished candidates only,
so a study that was killed and resumed decides as it would have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from automerge.config import SearchConfig
from automerge.gate.rules import violation
from automerge.gate.statistics import Scores
from automerge.study.race import Look, Race
from automerge.study.records import Record, SkillMean
from automerge.study.tier import AGREEMENT, ENOUGH, Prediction, Tier
from automerge.study.trial import Trial

DOUBT = 0.5  # standard errors of a prediction that are left to a candidate before the tier stops it

Read = Callable[[str], dict[str, Scores]]  # checksum → skill → search scores


@dataclass(frozen=True)
class _Known:
    """A candidate that was asked everything."""

    label: str
    checksum: str
    means: dict[str, float]
    objective: float = 0.0

    @property
    def rank(self) -> tuple[float, str]:
        """Among equals the name decides, not who came first."""
        return self.objective, self.label


class Climb:
    """One study's memory of what a new candidate has to beat."""

    def __init__(self, config: SearchConfig, counts: Mapping[str, tuple[int, int]], read: Read, *, tier: bool) -> None:
        """`counts`: (search items, blocks) of each skill; `read` gives a finished candidate's item scores."""
        self.config = config
        self._counts, self._read = counts, read
        self._race = Race(config.weights, config.gates)
        self._stops = config.racing and not config.objectives  # of several objectives there is no one incumbent
        # Nobody is asked for likelihoods that would stop nobody.
        self.tier = Tier(tuple(counts), config.weights) if tier and self._stops else None
        self._best: _Known | None = None
        self._references: dict[str, _Known] = {}
        self._scores: dict[str, dict[str, Scores]] = {}  # by checksum, of those that are compared with

    def learn(self, label: str, record: Record, *, baseline: bool) -> None:
        """Takes in a finished candidate, in whatever order. One that failed teaches nothing, and one that was stopped
        at most the tier: a baseline in its race. The tier's own choice must not teach it."""
        raced = baseline and any(found.n for found in record.skills.values())
        if record.error or (record.stopped and not raced):
            return
        known = _Known(label, record.checksum, {s: found.mean for s, found in record.skills.items()}, record.objective)
        if not record.stopped:
            if baseline:
                self.refer(label, record.checksum, record.skills)
            if record.feasible and (self._best is None or known.rank > self._best.rank):
                self._best = known
        if self.tier is not None:
            if record.likelihoods:
                self.tier.learn(label, record.likelihoods, known.means)
            else:
                self.tier = None  # it was dropped before this one was asked

    def settle(self) -> str | None:
        """After what was learnt: drops a tier that does not rank. Returns news of the tier, or None."""
        agreement = self.tier.agreement() if self.tier is not None else None
        if self.tier is None or agreement is None:
            return None
        told = (
            f"the likelihood tier ranks {self.tier.known} candidates as their scores do to {agreement:+.2f} (Spearman)"
        )
        if agreement < AGREEMENT:
            self.tier = None
            return f"{told}: it does not predict, and is dropped"
        return told if self.tier.known == ENOUGH else None

    def refer(self, label: str, checksum: str, skills: Mapping[str, SkillMean]) -> None:
        """Takes in a baseline, which a gate may refer to."""
        self._scores.pop(checksum, None)
        self._references[label] = _Known(label, checksum, {skill: found.mean for skill, found in skills.items()})

    @property
    def asks_tier(self) -> bool:
        """Whether candidates are still asked for their likelihoods first."""
        return self.tier is not None

    def watch(self) -> "Watching | None":
        """What watches the next candidate; None while there is nothing to compare it with, or nothing is stopped."""
        return Watching(self, self._best) if self._best is not None and self._stops else None

    def scores_of(self, known: _Known) -> dict[str, Scores]:
        if known.checksum not in self._scores:
            self._scores[known.checksum] = self._read(known.checksum)
        return self._scores[known.checksum]

    @property
    def referred(self) -> set[str]:
        """The baselines that gates refer to."""
        return {gate.no_worse_than for gate in self.config.gates if gate.no_worse_than}

    def missing(self) -> set[str]:
        """Of those, what nobody asked yet, or only in another folder: their item scores are not at hand."""
        return {name for name in self.referred if name not in self._references or not self._at_hand(name)}

    def _at_hand(self, name: str) -> bool:
        scores = self.scores_of(self._references[name])
        return not any(np.isnan(found).all() for found in scores.values())

    def references(self) -> dict[str, dict[str, Scores]]:
        """Their item scores."""
        return {name: self.scores_of(self._references[name]) for name in self.referred}

    def reference_means(self) -> dict[str, dict[str, float]]:
        """Baseline → skill → mean on search items, as gates need them of a point estimate."""
        return {name: known.means for name, known in self._references.items()}


class Watching:
    """Watches one candidate. Afterwards it says what became of it, on the scale of those that were asked in full."""

    def __init__(self, climb: Climb, best: _Known) -> None:
        # Everything it needs, as of now: it may decide in another thread, while other candidates are taken in.
        self._gates, self._race, self._best = climb.config.gates, climb._race, best
        self._incumbent, self._references = climb.scores_of(best), climb.references()
        self._reference_means = climb.reference_means()
        self._tier = climb.tier.snapshot() if climb.tier is not None else None
        items = sum(items for items, _ in climb._counts.values())
        self._look = Look.over(items, sum(blocks for _, blocks in climb._counts.values()))
        self._predicted: Prediction | None = None

    def after_tier(self, likelihoods: Mapping[str, float]) -> str | None:
        """Stops a candidate whose objective, or a gate's skill, is predicted out of reach."""
        self._predicted = found = self._tier.predict(likelihoods) if self._tier is not None else None
        if found is None:
            return None
        if found.objective + DOUBT * found.error < self._best.objective:
            return f"its likelihoods are behind those of {self._best.label}"
        for gate in self._gates:
            short = violation(gate, found.skills[gate.skill], self._reference_means)
            if short > DOUBT * found.skill_errors[gate.skill]:
                return f"its likelihoods break the gate {gate}"
        return None

    def after_block(self, scores: Mapping[str, Scores]) -> str | None:
        """Stops a candidate that is behind the incumbent, or breaks a gate, beyond doubt."""
        done = sum(map(len, scores.values()))
        if not self._look.due(done):
            return None
        if self._race.behind(scores, self._incumbent, self._look):
            return f"behind {self._best.label} after {done} of {self._look.items} items"
        gate = self._race.failing(scores, self._references, self._look)
        return None if gate is None else f"breaks the gate {gate} after {done} of {self._look.items} items"

    def estimate(self, trial: Trial) -> dict[str, SkillMean]:
        """Each skill's mean had the candidate been asked everything: what the tier predicted, or the incumbent's mean
        plus the mean paired difference so far."""
        found = {}
        for skill, scores in trial.scores().items():
            n = int(np.count_nonzero(~np.isnan(scores)))
            if not len(scores):
                assert self._predicted is not None
                found[skill] = SkillMean(self._predicted.skills[skill], 0, 0)
                continue
            ahead = scores - self._incumbent[skill][: len(scores)]
            ahead = ahead[~np.isnan(ahead)]
            value = self._best.means[skill] + (float(ahead.mean()) if len(ahead) else 0.0)
            found[skill] = SkillMean(float(np.clip(value, 0.0, 1.0)), n, len(scores) - n)
        return found
