"""Scorers: how good one answer is. One file a scorer; importing this package registers them all."""

from automerge.evals.scorers import (
    choice,
    code,
    constraints,
    contains,
    exact,
    judge,
    likelihood,
    lm_eval,
    numeric,
    pattern,
)
from automerge.evals.scorers.base import Answer, Dialogue, Memory, Scorer, make_scorer, names, refuse_outside_study

__all__ = [
    "Answer",
    "Dialogue",
    "Memory",
    "Scorer",
    "choice",
    "code",
    "constraints",
    "contains",
    "exact",
    "judge",
    "likelihood",
    "lm_eval",
    "make_scorer",
    "names",
    "numeric",
    "pattern",
    "refuse_outside_study",
]
