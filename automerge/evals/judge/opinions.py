"""What a judge's words come to: a rating of 1 to 10, or a choice between two answers.

MT-Bench takes the first [[x]] of the words, else the first [x]. Here all of them must agree: of two that differ one may
be quoted from the answer, before the judge's own or after it.
"""

import re

from automerge.evals.judge.fence import Fence

LOWEST, HIGHEST = 1.0, 10.0
_RATINGS = (re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]"), re.compile(r"\[\s*(\d+(?:\.\d+)?)\s*\]"))
_CHOICE = re.compile(r"\[\[\s*([ABC])\s*\]\]")


def rating(words: str, fence: Fence) -> float | None:
    """The rating in the judge's own words; None where there is none between 1 and 10, or several that differ."""
    own = fence.outside(words)
    for form in _RATINGS:
        if found := {float(value) for value in form.findall(own)}:
            value = found.pop()
            return value if not found and LOWEST <= value <= HIGHEST else None
    return None


def choice(words: str, fence: Fence) -> str | None:
    """A, B or C (neither); None where the judge's own words name none, or several."""
    found = set(_CHOICE.findall(fence.outside(words)))
    return found.pop() if len(found) == 1 else None


def as_score(value: float) -> float:
    """A rating of 1 to 10 as a score in [0, 1]."""
    return (value - LOWEST) / (HIGHEST - LOWEST)


def as_rating(score: float) -> float:
    """A score as the rating it was."""
    return round(LOWEST + score * (HIGHEST - LOWEST), 6)  # 6 digits: (x − 1)/9 · 9 + 1 is a hair off x
