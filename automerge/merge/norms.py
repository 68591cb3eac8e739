"""Norms of a tensor under a mask: what is left of it, in L1, L2 or as its largest magnitude.

Sums are float64 in reductions.py's order, a maximum is exact: the same bytes everywhere. It knows no method.
"""

import math

import torch
from torch import Tensor

from automerge.errors import ConfigError
from automerge.merge.plan import Band, Drop, Mask
from automerge.merge.reductions import RUN, l1, total
from automerge.merge.view import Values

NORMS = ("l1", "l2", "linf")


def masked_norm(values: Values, mask: Mask | None, norm: str) -> float:
    """Σ|a|, √Σa² or max|a| over the elements that the mask keeps; 0 where there are none.

    Raises ConfigError for another `norm`.
    """
    if norm == "l1" and (mask is None or isinstance(mask, Drop)):
        return l1(values, mask)
    if norm == "l1":
        return total(values.n, lambda start, stop: _kept_sizes(values, mask, start, stop).double())
    if norm == "l2":
        return math.sqrt(total(values.n, lambda start, stop: _kept_sizes(values, mask, start, stop).double().square()))
    if norm == "linf":
        starts = range(0, values.n, RUN)
        return max((float(_kept_sizes(values, mask, s, min(s + RUN, values.n)).max()) for s in starts), default=0.0)
    raise ConfigError(f"expected a norm of {', '.join(NORMS)}, got {norm!r}")


def smallest_size(values: Values) -> float:
    """min|a| of a tensor that is not empty."""
    return min(float(_kept_sizes(values, None, s, min(s + RUN, values.n)).min()) for s in range(0, values.n, RUN))


def _kept_sizes(values: Values, mask: Mask | None, start: int, stop: int) -> Tensor:
    """fp32 [stop − start]: |a|, 0 where the mask leaves it out."""
    sizes = values.read(start, stop).abs_()
    if mask is None:
        return sizes
    if isinstance(mask, Band):
        return sizes.masked_fill_((sizes < mask.low) | (sizes > mask.high), 0.0)
    if isinstance(mask, Drop):
        return sizes.masked_fill_(mask.stream.dropped(mask.level, start, stop - start, sizes.device), 0.0)
    ranks = mask.ranks[start:stop].to(torch.int64)
    lanes = mask.stream.lanes(start, stop - start, sizes.device).to(torch.int32) + (1 << 15)
    return sizes.masked_fill_(lanes < mask.levels[ranks], 0.0)
