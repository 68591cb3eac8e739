"""The verdict: may a candidate be promoted? It must beat the best baseline that meets the gates, and meet every gate.

Candidates were chosen on search items; everything here is computed on held-out items only. With k candidates each
comparison and each gate is tried at confidence 1 − α/k (Bonferroni), so that trying several does not raise the chance
of a false promotion. Only the comparison with the best baseline decides; those with the others are reported, and not
corrected for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from automerge.config import GateRule
from automerge.gate.rules import GateResult, try_gates, violation
from automerge.gate.statistics import Scores, difference, items_for, mean, score_interval, weighted_mean
from automerge.records import Interval

Outcome = Literal["PROMOTED", "REJECTED", "INCONCLUSIVE"]
MOST_ITEMS = 1_000_000  # beyond it no number of items is named


@dataclass(frozen=True)
class Row:
    """A model on held-out items: the objective and each skill, with intervals."""

    name: str
    objective: Interval
    skills: dict[str, Interval]


@dataclass(frozen=True)
class Judged:
    """A candidate's outcome, the reason in a sentence, its gates, and its difference from every baseline."""

    name: str
    outcome: Outcome
    reason: str
    gates: list[GateResult]
    differences: dict[str, Interval]  # baseline → candidate − baseline, in the objective
    rival: str  # the baseline it had to beat
    over_seeds: tuple[float, ...] = ()  # its objective with other mask seeds too, its own first


@dataclass(frozen=True)
class Verdict:
    """The study's outcome: that of its best candidate, the first of `judged`. `rows` has the candidates and the
    baselines."""

    outcome: Outcome
    reason: str
    winner: str | None
    judged: list[Judged]
    rows: list[Row]
    confidence: float
    use: int = 1  # how many times the held-out items have been used by this study

    @property
    def leading(self) -> Judged | None:
        """The candidate that the outcome is about."""
        return self.judged[0] if self.judged else None


def judge(
    candidates: Mapping[str, Mapping[str, Scores]],
    baselines: Mapping[str, Mapping[str, Scores]],
    *,
    objective: Mapping[str, float],
    gates: Sequence[GateRule],
    confidence: float,
    seed: int,
    use: int = 1,
    seeds: Mapping[str, Sequence[Mapping[str, Scores]]] | None = None,
    nobody: str = "there is no candidate",
) -> Verdict:
    """`candidates` and `baselines`: name → skill → held-out scores (n_s,), the same items in the same order. `seeds`:
    candidate → the scores of its merges with other mask seeds; they are reported and decide nothing, for what ships
    is the candidate. `nobody`: the reason where there is no candidate."""
    rows = [
        _row(name, scores, objective, confidence, seed) for name, scores in [*candidates.items(), *baselines.items()]
    ]
    rival = _rival(baselines, objective, gates)
    count = max(len(candidates), 1)
    corrected = _corrected(confidence, count)
    stricter = [gate.model_copy(update={"confidence": _corrected(gate.confidence, count)}) for gate in gates]
    judged = [
        _judge_one(name, scores, baselines, rival, objective, stricter, corrected, seed)
        for name, scores in candidates.items()
    ]
    judged = [_with_seeds(j, candidates[j.name], (seeds or {}).get(j.name, ()), objective) for j in judged]
    ranked = sorted(judged, key=lambda j: (_RANK[j.outcome], -weighted_mean(candidates[j.name], objective)))
    if not ranked:
        return Verdict("REJECTED", nobody, None, [], rows, confidence, use)
    best = ranked[0]
    winner = best.name if best.outcome == "PROMOTED" else None
    return Verdict(best.outcome, best.reason, winner, ranked, rows, confidence, use)


def _corrected(confidence: float, candidates: int) -> float:
    return 1 - (1 - confidence) / candidates


_RANK = {"PROMOTED": 0, "INCONCLUSIVE": 1, "REJECTED": 2}


def _row(name: str, scores: Mapping[str, Scores], objective: Mapping[str, float], confidence: float, seed: int) -> Row:
    return Row(
        name,
        score_interval(scores, objective, confidence=confidence, seed=seed),
        {skill: score_interval(scores, {skill: 1.0}, confidence=confidence, seed=seed) for skill in scores},
    )


def _rival(
    baselines: Mapping[str, Mapping[str, Scores]], objective: Mapping[str, float], gates: Sequence[GateRule]
) -> str:
    """The best baseline among those whose point estimates meet the gates; among all where none does."""
    points = {name: {skill: mean(s) for skill, s in scores.items()} for name, scores in baselines.items()}
    meeting = [name for name in points if all(violation(g, points[name][g.skill], points) <= 0 for g in gates)]
    return max(meeting or list(points), key=lambda name: weighted_mean(baselines[name], objective))


def _judge_one(
    name: str,
    scores: Mapping[str, Scores],
    baselines: Mapping[str, Mapping[str, Scores]],
    rival: str,
    objective: Mapping[str, float],
    gates: Sequence[GateRule],
    confidence: float,
    seed: int,
) -> Judged:
    results = try_gates(gates, scores, baselines, seed=seed)
    differences = {
        baseline: difference(scores, theirs, objective, confidence=confidence, seed=seed)
        for baseline, theirs in baselines.items()
    }
    outcome, reason = _outcome(name, rival, differences[rival], results)
    return Judged(name, outcome, reason, results, differences, rival)


def _with_seeds(
    judged: Judged, own: Mapping[str, Scores], others: Sequence[Mapping[str, Scores]], objective: Mapping[str, float]
) -> Judged:
    if not others:
        return judged
    values = tuple(weighted_mean(scores, objective) for scores in (own, *others))
    spread = f"{sum(values) / len(values):.4f} on average, from {min(values):.4f} to {max(values):.4f}"
    reason = f"{judged.reason}; over {len(values)} mask seeds its objective is {spread}, with its own {values[0]:.4f}"
    return replace(judged, over_seeds=values, reason=reason)


def _outcome(name: str, rival: str, ahead: Interval, gates: Sequence[GateResult]) -> tuple[Outcome, str]:
    broken = next((g for g in gates if g.broken), None)
    if broken:
        short = broken.bound - broken.interval.estimate
        return "REJECTED", f"{name} breaks the gate {broken.gate}, by {short:.4f}"
    if ahead.estimate == 0:
        return "REJECTED", f"{name} is no better than the baseline {rival}: their scores are equal"
    if ahead.estimate < 0:
        return "REJECTED", f"the baseline {rival} is better than {name}, by {-ahead.estimate:.4f}"
    unmet = next((g for g in gates if not g.met), None)
    if unmet:
        return (
            "INCONCLUSIVE",
            f"{name} may break the gate {unmet.gate}: the lower bound {unmet.interval.low:+.4f} lies below "
            f"{unmet.bound:+.4f}; {_would_tell(unmet.items_needed, f'held-out items of {unmet.skill}')}",
        )
    if ahead.low <= 0:
        needed = _would_tell(items_for(ahead, ahead.estimate), "held-out items")
        return (
            "INCONCLUSIVE",
            f"{name} is ahead of the baseline {rival} by {ahead.estimate:.4f}, inside the noise "
            f"[{ahead.low:+.4f}, {ahead.high:+.4f}]; {needed}",
        )
    return (
        "PROMOTED",
        f"{name} beats the best baseline, {rival}, by {ahead.estimate:.4f} [{ahead.low:+.4f}, {ahead.high:+.4f}], "
        "and meets every gate",
    )


def _would_tell(needed: int, items: str) -> str:
    """An estimate that lies on the bound itself would need items without end."""
    return f"about {needed} {items} would tell" if needed <= MOST_ITEMS else f"no number of {items} would tell"
