"""The scalars of a launch, the only table that is sent for every merge: one row a job and block of 2^33 elements.

Each is 32 bits wide: numbers are rounded once from float64 to fp32, and drop levels and keys are integers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.merge.kernels.cuda_kind import ROW_SCALARS, TERM_SCALARS, Kind
from automerge.merge.kernels.job import Job
from automerge.merge.plan import Band, Drop, Ranked, Term

FLOATS = 4  # of a term's scalars: factor, weight, low, high; the rest are integers


def scalars(jobs: Sequence[Job], kind: Kind, rows: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    """int32 [rows, ROW_SCALARS + TERM_SCALARS · terms]: bit patterns, laid out as cuda_kind.py says."""
    terms = len(kind.terms)
    table = np.zeros((len(rows), ROW_SCALARS + TERM_SCALARS * terms), dtype=np.uint32)
    plans = [jobs[position].plan for position, _ in rows]
    table[:, :ROW_SCALARS] = _bits([[plan.divisor, plan.base, plan.factor] for plan in plans])
    if terms:
        by_term = table[:, ROW_SCALARS:].reshape(len(rows), terms, TERM_SCALARS)  # a view
        by_term[:, :, :FLOATS] = _bits([[_floats(term) for term in plan.terms] for plan in plans])
        integers = [[_integers(term, block) for term in jobs[position].plan.terms] for position, block in rows]
        by_term[:, :, FLOATS:] = np.array(integers, dtype=np.uint32)
    return table.view(np.int32)


def _bits(values: object) -> NDArray[np.uint32]:
    return np.array(values, dtype=np.float64).astype(np.float32).view(np.uint32)


def _floats(term: Term) -> tuple[float, float, float, float]:
    low, high = (term.mask.low, term.mask.high) if isinstance(term.mask, Band) else (0.0, 0.0)
    return term.factor, term.weight, low, high


def _integers(term: Term, block: int) -> tuple[int, int, int]:
    mask = term.mask
    if isinstance(mask, Drop):
        return mask.level, *mask.stream.keys(block)
    if isinstance(mask, Ranked):
        return 0, *mask.stream.keys(block)
    return 0, 0, 0
