"""Gates: a point estimate that constrains the search, and a test on held-out items at its end.

References: a gate's `no_worse_than` names a baseline whose scores on the same items are given here by that name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automerge.config import GateRule
from automerge.gate.statistics import Scores, difference, items_for, mean, score_interval
from automerge.records import Interval


@dataclass(frozen=True)
class GateResult:
    """A gate tried on held-out items.

    `interval` is of the score (min) or of the score minus the reference's (no_worse_than). The gate is `met` where its
    lower end reaches `bound`, and `broken` where its estimate does not. `unscored` items of either model count nowhere.
    """

    gate: str
    skill: str
    interval: Interval
    bound: float
    items_needed: int
    unscored: int = 0

    @property
    def met(self) -> bool:
        return self.interval.low >= self.bound

    @property
    def broken(self) -> bool:
        return self.interval.estimate < self.bound


def violation(gate: GateRule, score: float, references: Mapping[str, Mapping[str, float]]) -> float:
    """How far a point estimate breaks the gate, in score units: ≤ 0 is feasible, as Optuna's constraints have it."""
    if gate.min is not None:
        return gate.min - score
    reference = references[str(gate.no_worse_than)][gate.skill]
    return reference - gate.margin.of(reference) - score


def try_gate(
    gate: GateRule,
    candidate: Mapping[str, Scores],
    references: Mapping[str, Mapping[str, Scores]],
    *,
    seed: int,
) -> GateResult:
    """One-sided at the gate's confidence, on paired held-out scores: skill → scores, in the same item order."""
    only = {gate.skill: 1.0}
    two_sided = 2 * gate.confidence - 1  # whose lower end is the one-sided bound
    if gate.min is not None:
        interval = score_interval(candidate, only, confidence=two_sided, seed=seed)
        bound = gate.min
    else:
        reference = references[str(gate.no_worse_than)]
        margin = gate.margin.of(mean(reference[gate.skill]))
        interval = difference(candidate, reference, only, confidence=two_sided, seed=seed)
        bound = -margin
    needed = items_for(interval, abs(interval.estimate - bound))
    unscored = candidate[gate.skill].size - interval.n
    return GateResult(str(gate), gate.skill, interval, bound, needed, unscored)


def try_gates(
    gates: Sequence[GateRule],
    candidate: Mapping[str, Scores],
    references: Mapping[str, Mapping[str, Scores]],
    *,
    seed: int,
) -> list[GateResult]:
    """Every gate, in order. All must be met, so no correction for several gates is owed (intersection-union test)."""
    return [try_gate(gate, candidate, references, seed=seed) for gate in gates]
