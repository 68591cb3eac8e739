"""Paired statistics on item scores: seeded, and refusing where there are too few items to say anything.

Notation: S skills; skill s has n_s items and weight w_s, Σ w_s = 1; a score is a number in [0, 1], NaN where unscored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from automerge.errors import SkillError
from automerge.gate import exact
from automerge.records import Interval, ItemResult

MIN_ITEMS = 10  # paired items of a skill below which no interval is given
MANY = 40  # items from which on rare, large losses are seen often enough for the bootstrap to reckon with them
RESAMPLES = 4999

Scores = NDArray[np.float64]


def as_scores(results: Sequence[ItemResult]) -> Scores:
    """(n,) in the order of the results, NaN where unscored."""
    return np.array([np.nan if r.score.value is None else r.score.value for r in results])


def mean(scores: Scores) -> float:
    """The mean over scored items. Raises SkillError where none is scored."""
    scored = scores[~np.isnan(scores)]
    if scored.size == 0:
        raise SkillError("no item could be scored")
    return float(scored.mean())


def weighted_mean(scores: Mapping[str, Scores], weights: Mapping[str, float]) -> float:
    """The objective: Σ w_s · mean_s, the weights made to sum to 1."""
    return sum(share * mean(scores[skill]) for skill, share in shares(weights).items())


def difference(
    a: Mapping[str, Scores],
    b: Mapping[str, Scores],
    weights: Mapping[str, float],
    *,
    confidence: float,
    seed: int,
) -> Interval:
    """Objective of `a` minus that of `b`, paired by item, with a two-sided interval.

    Of one skill's 0/1 scores the interval is exact (exact.py). Else it is the BCa bootstrap (Efron 1987), expanded for
    few items (Hesterberg 2015), items resampled within each skill. Items that either side leaves unscored drop out.
    Raises SkillError for a skill with fewer than MIN_ITEMS pairs.
    """
    factors = shares(weights)
    pairs = [_differences(skill, a[skill], b[skill]) for skill in factors]
    if len(pairs) == 1 and exact.takes(pairs[0]):
        low, high = exact.interval(pairs[0], confidence)
        return Interval(float(pairs[0].mean()), low, high, confidence, pairs[0].size)
    return _interval(pairs, list(factors.values()), confidence, seed)


def score_interval(
    scores: Mapping[str, Scores], weights: Mapping[str, float], *, confidence: float, seed: int
) -> Interval:
    """The objective itself with a two-sided interval within [0, 1]: exact for one skill's 0/1 scores, else by the same
    bootstrap."""
    nothing = {skill: np.zeros_like(values) for skill, values in scores.items()}
    if len(weights) == 1:
        (skill,) = weights
        values = _differences(skill, scores[skill], nothing[skill])
        if exact.takes(values):
            low, high = exact.proportion(int(values.sum()), values.size, confidence)
            return Interval(float(values.mean()), low, high, confidence, values.size)
    found = difference(scores, nothing, weights, confidence=confidence, seed=seed)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))


def skill_score(scores: Scores, *, confidence: float, seed: int) -> Interval:
    """One skill's score as `score_interval` has it, but of any number of items: see `skill_difference`."""
    if np.count_nonzero(~np.isnan(scores)) < MIN_ITEMS:
        return _no_claim(scores, 0.0, confidence)
    return score_interval({"": scores}, {"": 1.0}, confidence=confidence, seed=seed)


def skill_difference(a: Scores, b: Scores, *, confidence: float, seed: int) -> Interval:
    """One skill's a − b as `difference` has it, but of any number of items: fewer than MIN_ITEMS have their mean (NaN
    where there is none) between the least and the most it can be, which claims nothing."""
    if np.count_nonzero(~np.isnan(a - b)) < MIN_ITEMS:
        return _no_claim(a - b, -1.0, confidence)
    return difference({"": a}, {"": b}, {"": 1.0}, confidence=confidence, seed=seed)


def items_for(interval: Interval, distance: float) -> int:
    """About how many items would shrink the interval's half-width to `distance` (it shrinks as 1/√n)."""
    half = (interval.high - interval.low) / 2
    return int(np.ceil(interval.n * (half / max(distance, 1e-9)) ** 2))


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights made to sum to 1."""
    total = sum(weights.values())
    return {skill: weight / total for skill, weight in weights.items()}


def _no_claim(values: Scores, least: float, confidence: float) -> Interval:
    scored = values[~np.isnan(values)]
    return Interval(float(scored.mean()) if scored.size else float("nan"), least, 1.0, confidence, scored.size)


def _differences(skill: str, a: Scores, b: Scores) -> Scores:
    if a.shape != b.shape:
        raise SkillError(f"{skill}: {a.size} and {b.size} item scores cannot be paired")
    found: Scores = a - b
    found = found[~np.isnan(found)]
    if found.size < MIN_ITEMS:
        raise SkillError(
            f"{skill}: {found.size} paired items; at least {MIN_ITEMS} are needed for an interval",
            hint="Give the skill more held-out items (items: held_out).",
        )
    return found


def _interval(pairs: list[Scores], factors: list[float], confidence: float, seed: int) -> Interval:
    estimate = float(sum(f * d.mean() for f, d in zip(factors, pairs, strict=True)))
    n = sum(d.size for d in pairs)
    # Resamples show what was seen. Where that is little, as hardly an item changed, or few did that can change by much
    # or little, bound besides how often a difference of 1 could occur and still not be seen in n items (Clopper and
    # Pearson 1934, no event). The skills are independent, so these half-widths and the bootstrap's add up as squares.
    unseen = [
        f * (1 - ((1 - confidence) / 2) ** (1 / d.size))
        for f, d in zip(factors, pairs, strict=True)
        if _changed(d) < MIN_ITEMS or (d.size < MANY and not exact.takes(d))
    ]
    varying = [(f, d) for f, d in zip(factors, pairs, strict=True) if np.ptp(d) > 0]
    below, above = _bootstrap([d for _, d in varying], [f for f, _ in varying], confidence, seed)
    low, high = (float(np.hypot(side, np.hypot.reduce([0.0, *unseen]))) for side in (below, above))
    return Interval(estimate, estimate - low, estimate + high, confidence, n)


def _changed(differences: Scores) -> int:
    """How many items differ otherwise than most do (by nothing, as a rule)."""
    alike = int(np.unique(differences, return_counts=True)[1].max())
    return differences.size - (alike if alike > 1 else 0)


def _bootstrap(pairs: list[Scores], factors: list[float], confidence: float, seed: int) -> tuple[float, float]:
    """How far the interval reaches below and above the estimate; (0, 0) without samples."""
    if not pairs:
        return 0.0, 0.0

    def statistic(*samples: Scores, axis: int) -> Scores:
        total: Scores = sum(f * s.mean(axis=axis) for f, s in zip(factors, samples, strict=True))
        return total

    from scipy.stats import bootstrap, norm, t  # slow to import

    # Percentiles of few items lie too near: those that a t interval would reach (Hesterberg 2015, section 4.2).
    fewest = min(d.size for d in pairs)
    reach = np.sqrt(fewest / (fewest - 1)) * t.ppf((1 + confidence) / 2, fewest - 1)
    result = bootstrap(
        pairs,
        statistic,
        n_resamples=RESAMPLES,
        batch=500,
        confidence_level=2 * norm.cdf(reach) - 1,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    estimate = sum(f * d.mean() for f, d in zip(factors, pairs, strict=True))
    low, high = result.confidence_interval
    return float(estimate - low), float(high - estimate)
