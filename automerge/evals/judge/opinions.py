"""What a judge's words come to: a rating of 1 to 10, or a choice between two answers.

MT-Bench takes the first [[x]] of the words, else the first [x]. Here it is the last: the verdict was asked for at the
end, and what comes before may quote the answer.
"""

import re

from automerge.evals.judge.fence import Fence

LOWEST, HIGHEST = 1.0, 10.0
_RATINGS = (re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]"), re.compile(r"\[\s*(\d+(?:\.\d+)?)\s*\]"))
_CHOICE = re.compile(r"\[\[\s*([ABC])\s*\]\]")


def rating(words: str, fence: Fence) -> float | None:
    """The rating in the judge's own words; None where there is none between 1 and 10."""
    own = fence.outside(words)
    for form in _RATINGS:
        if found := form.findall(own):
            value = float(found[-1])
            return value if LOWEST <= value <= HIGHEST else None
    return None


def choice(words: str, fence: Fence) -> str | None:
    """A, B or C (neither); None where the judge's own words name none."""
    found = _CHOICE.findall(fence.outside(words))
    return found[-1] if found else None


def as_score(value: float) -> float:
    """A rating of 1 to 10 as a score in [0, 1]."""
    return (value - LOWEST) / (HIGHEST - LOWEST)


def as_rating(score: float) -> float:
    """A score as the rating it was."""
    return round(LOWEST + score * (HIGHEST - LOWEST), 6)  # 6 digits: (x − 1)/9 · 9 + 1 is a hair off x
