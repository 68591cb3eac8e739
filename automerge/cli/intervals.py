"""How the commands show an interval: in words, and as JSON's fields. Nothing scored is no number, in either."""

from dataclasses import asdict
from typing import Any

from automerge.records import Interval

CONFIDENCE = 0.95  # of the commands that compare checkpoints; a study has its own


def score_text(interval: Interval) -> str:
    """A score and its span."""
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]" if interval.n else "unscored"


def difference_text(interval: Interval) -> str:
    """A difference, signed, and its span."""
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]" if interval.n else "unscored"


def fields(interval: Interval) -> dict[str, Any]:
    """For --json, which has no NaN: the estimate of no items is null."""
    return {**asdict(interval), "estimate": interval.estimate if interval.n else None}
