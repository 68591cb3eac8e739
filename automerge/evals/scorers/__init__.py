"""Scorers: how good one answer is. One file a scorer; importing this package registers them all."""

from automerge.evals.scorers import code, contains, exact, likelihood, numeric
from automerge.evals.scorers.base import Answer, Scorer, make_scorer, names

__all__ = ["Answer", "Scorer", "code", "contains", "exact", "likelihood", "make_scorer", "names", "numeric"]
