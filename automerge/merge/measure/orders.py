"""Order statistics of a whole tensor's magnitudes, kept from merge to merge: the k-th largest, and ranks in rows.

Exact, so the same everywhere; on the CPU by compiled code (kernels/cpu_order.py). It knows no method.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.kernels import cpu_order
from automerge.merge.kernels.cpu_measure import measurable
from automerge.merge.values import Values

RUN = 1 << 20
MOST_RANKS = 1 << 16
RANKS_BYTES = "bytes of row_ranks"  # what is kept of them
MOST_KEPT = 1 << 30  # of those: they are as large as the models, and beyond this are taken anew for every merge


def kth_largest(values: Values, k: int, kept: dict[Any, Any]) -> float:
    """The k-th largest |a|, k from 1; keep what is at least that, and elements equal to it stay together.

    Infinity where k is 0 (nothing is kept), 0 where k is n or more.
    """
    if k <= 0:
        return math.inf
    if k >= values.n:
        return 0.0
    key = ("kth_largest", values.key, k)
    if values.key is None or key not in kept:
        kept[key] = _select(values, k, kept) if measurable(values) else _partition(values, k)
    threshold: float = kept[key]
    return threshold


def row_ranks(values: Values, columns: int, kept: dict[Any, Any]) -> Tensor:
    """uint16 [n]: each element's rank by |a| in its row of `columns`, 0 the smallest, equal ones by their place.

    Raises MergeError for rows of more than 65,536.
    """
    if columns > MOST_RANKS:
        raise MergeError(f"ranks are taken in rows of at most {MOST_RANKS} elements, got {columns}")
    key = ("row_ranks", values.key)
    found: Tensor | None = kept.get(key) if values.key is not None else None
    if found is None:
        compiled = measurable(values) and columns > 0 and values.n % columns == 0
        found = cpu_order.row_ranks(values, columns) if compiled else _sorted_ranks(values, columns)
        taken = kept.get(RANKS_BYTES, 0) + found.nbytes
        if values.key is not None and taken <= MOST_KEPT:
            kept[key], kept[RANKS_BYTES] = found, taken
    return found.to(values.base.device)


def _select(values: Values, k: int, kept: dict[Any, Any]) -> float:
    """By counting; a tensor's histogram is kept, so that another k costs one pass and no sort."""
    key = ("histogram", values.key)
    histogram = kept.get(key) if values.key is not None else None
    if histogram is None:
        histogram = kept[key] = cpu_order.histogram(values)
    return cpu_order.select(values, k, histogram)


def _partition(values: Values, k: int) -> float:
    sizes = _sizes(values)
    sizes.partition(values.n - k)
    return float(sizes[values.n - k])


def _sorted_ranks(values: Values, columns: int) -> Tensor:
    order = torch.argsort(torch.from_numpy(_sizes(values)).view(-1, columns), dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(columns).expand_as(order))
    return ranks.view(-1).to(torch.uint16)


def _sizes(values: Values) -> np.ndarray[Any, np.dtype[np.float32]]:
    sizes = np.empty(values.n, dtype=np.float32)
    for start in range(0, values.n, RUN):
        stop = min(start + RUN, values.n)
        sizes[start:stop] = values.read(start, stop).abs_().cpu().numpy()
    return sizes
