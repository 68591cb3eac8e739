"""Order statistics on the CPU's kernels: the values of measure/orders.py, without sorting a tensor.

The bits of |a|, read as an integer, have its order. Their upper half (0 … 32767) is counted once a tensor; the k-th
largest is then found among the lower halves of the elements in the one bin it lies in. Those are few but for 0, which
most differences of 16-bit numbers have. It needs no numba until something is measured.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automerge.merge.kernels.cpu import share_out
from automerge.merge.kernels.cpu_measure import BLOCK, described
from automerge.merge.values import Values

RUN = 256  # blocks a thread counts at once, at least
ROWS = 1 << 17  # elements a thread ranks at once, about
MOST_RUNS = 16
HALVES = 1 << 15
Array = np.ndarray[Any, np.dtype[Any]]


class Histogram(NamedTuple):
    """Bins that are not empty, largest first: the upper half of |a|'s bits, and how many elements are at least that."""

    bins: Array  # uint16 [bins]
    reached: Array  # int64 [bins]


def histogram(values: Values, *, threads: int | None = None) -> Histogram:
    """All of a tensor's. `threads`: torch.get_num_threads() by default."""
    from automerge.merge.kernels.cpu_order_loop import count_upper

    given, runs = described(values), _runs(values)
    counts = np.zeros((len(runs), HALVES), np.int64)

    def task(number: int) -> None:
        count_upper(given, *runs[number], values.n, counts[number])

    share_out([partial(task, number) for number in range(len(runs))], threads)
    total = counts.sum(axis=0)
    bins = np.flatnonzero(total)[::-1]
    return Histogram(bins.astype(np.uint16), np.cumsum(total[bins]))


def select(values: Values, k: int, found: Histogram, *, threads: int | None = None) -> float:
    """The k-th largest |a|, 1 ≤ k ≤ n, of the tensor whose histogram it is."""
    from automerge.merge.kernels.cpu_order_loop import gather_lower

    place = int(np.searchsorted(found.reached, k))
    upper = int(found.bins[place])
    ahead = int(found.reached[place - 1]) if place else 0
    given, runs = described(values), _runs(values)
    room = min(int(found.reached[place]) - ahead, BLOCK * (runs[0][1] - runs[0][0]))  # the first run is the longest
    lower = np.empty((len(runs), room), np.uint16)  # memory that nothing is written to is none
    met = np.zeros(len(runs), np.int64)

    def task(number: int) -> None:
        met[number] = gather_lower(given, upper, *runs[number], values.n, lower[number])

    share_out([partial(task, number) for number in range(len(runs))], threads)
    inside = np.concatenate([lower[number, :count] for number, count in enumerate(met)])
    last = len(inside) - (k - ahead)
    if last >= 0:
        inside.partition(last)
    return float(np.uint32(upper << 16 | (int(inside[last]) if last >= 0 else 0)).view(np.float32))


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


def _runs(values: Values) -> list[tuple[int, int]]:
    """First blocks and ends of what threads take at once, each with arrays of its own."""
    blocks = -(-values.n // BLOCK)
    run = max(RUN, -(-blocks // MOST_RUNS))
    return [(first, min(first + run, blocks)) for first in range(0, blocks, run)]
