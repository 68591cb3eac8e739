"""Racing: whether a candidate is behind beyond doubt after part of its items. Pure statistics on item scores.

A candidate and the incumbent were asked the same items in the same order. After each block of items the weighted mean
of their paired differences, Σ w_s mean_s(d), is studentized, its standard error √(Σ w_s² var_s(d) ÷ n_s), and compared
with a bound that is the same at every look (Pocock 1977). The bound is set so that of candidates equal to the incumbent
no more than a chosen share is ever stopped, however often one looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from automerge.config import GateRule
from automerge.gate.statistics import Scores, shares

STOPPED_EQUALS = 0.02  # of candidates equal to what they are compared with, at most this share is stopped
FIRST_LOOK = 30  # items, before which nothing is concluded
FEWEST = 5  # of each skill that counts
MOST_LOOKS = 16
_WALKS = 40_000  # random walks that the bound is found from

BySkill = Mapping[str, Scores]


@dataclass(frozen=True)
class Race:
    """One study's rule. `objective` are the skills' weights; gates share the error with the objective."""

    objective: Mapping[str, float]
    gates: Sequence[GateRule]
    error: float = STOPPED_EQUALS

    def behind(self, candidate: BySkill, incumbent: BySkill, look: "Look") -> bool:
        """Whether the objective of `candidate` (the items so far) lies below the incumbent's beyond doubt."""
        factors = shares(self.objective)
        return _below_zero(_differences(candidate, incumbent, factors), factors, self._level(look))

    def failing(self, candidate: BySkill, references: Mapping[str, BySkill], look: "Look") -> GateRule | None:
        """A gate that the candidate is certain to break on the search items, or None."""
        for gate in self.gates:
            scores = candidate[gate.skill]
            if gate.min is not None:
                short = scores - gate.min
            else:
                reference = references[str(gate.no_worse_than)][gate.skill]
                margin = gate.margin.of(float(np.nanmean(reference)))
                short = scores - reference[: len(scores)] + margin
            short = short[~np.isnan(short)]
            if _below_zero({gate.skill: short}, {gate.skill: 1.0}, self._level(look)):
                return gate
        return None

    def _level(self, look: "Look") -> float:
        return nominal_level(look.most, self.error / (1 + len(self.gates)))


@dataclass
class Look:
    """Which look at the items this is: at most `most` are taken over `items`, evenly spread."""

    items: int
    most: int
    last: int = 0  # which one was taken last

    @classmethod
    def over(cls, items: int, blocks: int) -> "Look":
        """For so many items, asked in so many blocks."""
        return cls(items, max(min(blocks - 1, MOST_LOOKS), 1))

    def due(self, done: int) -> bool:
        """Whether to look now, `done` items in all being answered; remembers that it was."""
        number = done * (self.most + 1) // self.items
        if done < FIRST_LOOK or done >= self.items or number <= self.last:
            return False
        self.last = number
        return True


@cache
def nominal_level(looks: int, error: float) -> float:
    """The one-sided level of each of `looks` evenly spaced looks, so that all together err in `error` of the cases.

    From seeded random walks: the same number everywhere.
    """
    steps = np.random.default_rng(looks).standard_normal((_WALKS, looks)).cumsum(axis=1)
    lowest = (steps / np.sqrt(np.arange(1, looks + 1))).min(axis=1)
    from scipy.stats import norm  # slow to import

    return float(norm.cdf(np.quantile(lowest, error)))


def _differences(candidate: BySkill, incumbent: BySkill, skills: Mapping[str, float]) -> dict[str, Scores]:
    found = {}
    for skill in skills:
        difference = candidate[skill] - incumbent[skill][: len(candidate[skill])]
        found[skill] = difference[~np.isnan(difference)]
    return found


def _below_zero(differences: Mapping[str, Scores], factors: Mapping[str, float], level: float) -> bool:
    counts = [len(d) for d in differences.values()]
    if min(counts) < FEWEST or sum(counts) < FIRST_LOOK:
        return False
    mean = sum(factors[skill] * float(d.mean()) for skill, d in differences.items())
    if mean >= 0:
        return False
    variance = 0.0
    for skill, d in differences.items():
        # No spread seen is not no spread: one item in n might have differed by 1.
        spread = float(d.var(ddof=1)) if np.ptp(d) > 0 else 1.0 / len(d)
        variance += factors[skill] ** 2 * spread / len(d)
    from scipy.stats import t  # slow to import

    return bool(mean / np.sqrt(variance) < t.ppf(level, sum(counts) - len(counts)))
