"""Norms of a tensor under a mask: what is left of it, in L1, L2 or as its largest magnitude.

Sums are float64 in reductions.py's order, a maximum is exact: the same bytes everywhere. It knows no method.
"""

import math

import torch
from torch import Tensor

from automerge.errors import ConfigError
from automerge.merge.kernels.cpu_measure import LARGEST, SIZES, SQUARES, measurable, readable, sums_of_blocks
from automerge.merge.measure.reductions import RUN, total
from automerge.merge.plan import Band, Drop, Mask
from automerge.merge.values import Values

NORMS = ("l1", "l2", "linf")
_COMPILED = {"l1": SIZES, "l2": SQUARES, "linf": LARGEST}


def masked_norm(values: Values, mask: Mask | None, norm: str) -> float:
    """Σ|a|, √Σa² or max|a| over the elements that the mask keeps; 0 where there are none.

    Raises ConfigError for another `norm`.
    """
    if norm in _COMPILED and measurable(values) and readable(mask, values.n):
        parts = sums_of_blocks(_COMPILED[norm], values, mask=mask)
        if norm == "linf":
            return max(parts, default=0.0)
        return math.fsum(parts) if norm == "l1" else math.sqrt(math.fsum(parts))
    return _masked_norm(values, mask, norm)


def smallest_size(values: Values) -> float:
    """min|a| of a tensor that is not empty."""
    return min(float(_kept_sizes(values, None, s, min(s + RUN, values.n)).min()) for s in range(0, values.n, RUN))


def _masked_norm(values: Values, mask: Mask | None, norm: str) -> float:
    """Where compiled code does not reach."""
    if norm == "l1":
        return total(values.n, lambda start, stop: _kept_sizes(values, mask, start, stop).double())
    if norm == "l2":
        return math.sqrt(total(values.n, lambda start, stop: _kept_sizes(values, mask, start, stop).double().square()))
    if norm == "linf":
        starts = range(0, values.n, RUN)
        return max((float(_kept_sizes(values, mask, s, min(s + RUN, values.n)).max()) for s in starts), default=0.0)
    raise ConfigError(f"expected a norm of {', '.join(NORMS)}, got {norm!r}")


def ranked_norm(values: Values, band: Band, places: range, norm: str) -> float:
    """The norm of the elements at `places`, not empty, of the tensor sorted by size, ascending.

    `band`: the sizes at the first and the last place; `high` may be infinite where the last place is the tensor's. Of
    elements as large as these only those within the places count.
    """
    if norm == "linf":
        return masked_norm(values, band, norm)
    inside = at_most = 0
    for start in range(0, values.n, RUN):
        sizes = values.read(start, min(start + RUN, values.n)).abs_()
        inside += int(((sizes > band.low) & (sizes < band.high)).sum())
        at_most += int((sizes <= band.low).sum())
    lowest = min(at_most, places.stop) - places.start
    highest = len(places) - inside - lowest
    power = 2 if norm == "l2" else 1

    def terms(start: int, stop: int) -> Tensor:
        sizes = values.read(start, stop).abs_()
        return sizes.masked_fill_((sizes <= band.low) | (sizes >= band.high), 0.0).double().pow_(power)

    ends = lowest * band.low**power + (highest * band.high**power if highest else 0.0)
    together = total(values.n, terms) + ends
    return together if norm == "l1" else math.sqrt(together)


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
