"""Sums over a whole tensor that have the same bytes everywhere: dots, and whatever has its terms in float64.

float64, in a fixed order: blocks of 4096 neighbours (a last one filled up with 0) are halved and the halves added
until one number is left, and math.fsum, which is exact up to one rounding, adds the blocks'. A product of two fp32
numbers is exact in float64. On the CPU compiled code (kernels/cpu_measure.py) does the same. It knows no method.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from automerge.merge.kernels.cpu_measure import BLOCK, DOT, measurable, sums_of_blocks
from automerge.merge.values import Values

RUN = 16 * BLOCK


def total(n: int, terms: Callable[[int, int], Tensor]) -> float:
    """Σ over n elements; `terms(start, stop)` gives float64 [stop − start]."""
    sums: list[float] = []
    for start in range(0, n, RUN):
        sums.extend(block_sums(terms(start, min(start + RUN, n))).tolist())
    return math.fsum(sums)


def block_sums(terms: Tensor) -> Tensor:
    """float64 [blocks]: one sum a block of 4096 of the float64 terms [n]."""
    short = -terms.numel() % BLOCK
    rows = torch.nn.functional.pad(terms, (0, short)).view(-1, BLOCK)
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        rows = rows[:, :half] + rows[:, half:]
    return rows[:, 0]


def dot(one: Values, other: Values) -> float:
    """Σ a_i b_i."""
    if measurable(one, other):
        return math.fsum(sums_of_blocks(DOT, one, other))
    return total(one.n, lambda start, stop: one.read(start, stop).double() * other.read(start, stop).double())
