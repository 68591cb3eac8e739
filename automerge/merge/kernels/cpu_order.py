"""Order statistics on the CPU's kernels: the values of measure/orders.py, without sorting a tensor.

The bits of |a|, read as an integer, have its order. Their upper half (0 … 32767) is counted once a tensor; the k-th
largest is then found by counting the lower half of the elements in the one bin it lies in. It needs no numba until
something is measured.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automerge.merge.kernels.cpu import share_out
from automerge.merge.kernels.cpu_measure import BLOCK, described
from automerge.merge.view import Values

RUN = 256  # blocks a thread counts at once, at least
ROWS = 1 << 17  # elements a thread ranks at once, about
HALVES = 1 << 16
Array = np.ndarray[Any, np.dtype[Any]]


class Histogram(NamedTuple):
    """Bins that are not empty, largest first: the upper half of |a|'s bits, and how many elements are at least that."""

    bins: Array  # uint16 [bins]
    reached: Array  # int64 [bins]


def histogram(values: Values, *, threads: int | None = None) -> Histogram:
    """All of a tensor's. `threads`: torch.get_num_threads() by default."""
    counts = _counts(values, None, threads)
    bins = np.flatnonzero(counts)[::-1]
    return Histogram(bins.astype(np.uint16), np.cumsum(counts[bins]))


def select(values: Values, k: int, found: Histogram, *, threads: int | None = None) -> float:
    """The k-th largest |a|, 1 ≤ k ≤ n, of the tensor whose histogram it is."""
    place = int(np.searchsorted(found.reached, k))
    upper = int(found.bins[place])
    ahead = int(found.reached[place - 1]) if place else 0
    counts = _counts(values, upper, threads)
    lower = HALVES - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), k - ahead))
    return float(np.uint32(upper << 16 | lower).view(np.float32))


def row_ranks(values: Values, columns: int, *, threads: int | None = None) -> Tensor:
    """uint16 [n]: see measure.orders.row_ranks; n is a multiple of `columns`, at most 65,536."""
    from automerge.merge.kernels.cpu_order_loop import rank_rows

    ranks = np.empty(values.n, np.uint16)
    rows, given = values.n // columns, described(values)
    step = max(1, ROWS // columns)

    def task(begin: int) -> None:
        rank_rows(given, columns, begin, min(begin + step, rows), ranks)

    share_out([lambda begin=begin: task(begin) for begin in range(0, rows, step)], threads)  # type: ignore[misc]
    return torch.from_numpy(ranks)


def _counts(values: Values, upper: int | None, threads: int | None) -> Array:
    """int64 [65536]: elements by the upper half of |a|'s bits, or by the lower half of those whose upper is `upper`."""
    from automerge.merge.kernels.cpu_order_loop import count_lower, count_upper

    blocks, given = -(-values.n // BLOCK), described(values)
    run = max(RUN, -(-blocks // 16))  # each has its own counters
    starts = range(0, blocks, run)
    counts = np.zeros((len(starts), HALVES), np.int64)

    def task(number: int, begin: int) -> None:
        end = min(begin + run, blocks)
        if upper is None:
            count_upper(given, begin, end, values.n, counts[number])
        else:
            count_lower(given, upper, begin, end, values.n, counts[number])

    share_out([lambda n=n, s=s: task(n, s) for n, s in enumerate(starts)], threads)  # type: ignore[misc]
    total: Array = counts.sum(axis=0)
    return total
