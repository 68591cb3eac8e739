"""DoRA: a low-rank change of the direction, with a magnitude a row (or a column) of its own. It knows no files.

Paper: arXiv:2402.09353 (S. Liu et al., 2024), eq. 5:   x = m · v / ‖v‖,   v = θ + s·BA
v is fp32; ‖v‖ is over the inputs of one output: a row of a linear layer, a column where the base keeps the weight
transposed or of an embedding. Its squares are summed in float64 by a tree that halves a power-of-two width padded
with zeros; sums over rows go by blocks of 1,024 rows, then a tree over the blocks. The root is rounded to fp32, then
m ÷ ‖v‖, then its product with v: one rounding each. δ = x − θ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from automerge.merge.sources.lowrank import LowRank
from automerge.merge.sources.source import CPU

BLOCK = 1024  # rows


@dataclass(frozen=True)
class Dora:
    """`read_magnitude` gives m, fp32 [n], or [m] `by_column`; `read_base` the base's fp32 values, flat, by place."""

    low_rank: LowRank
    read_magnitude: Callable[[], Tensor]
    read_base: Callable[[int, int], Tensor]
    by_column: bool
    _factor: list[Tensor] = field(default_factory=list, repr=False)  # the cache: none or one

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor:
        """fp32 [stop − start] of δ's flat elements, where `base` holds the base's."""
        columns = self.low_rank.shape[1]
        first, last = start // columns, -(-stop // columns)
        factor = self.factor().to(base.device)
        rows = factor.expand(last - first, -1) if self.by_column else factor[first:last, None].expand(-1, columns)
        run = rows.reshape(-1)[start - first * columns : stop - first * columns]
        return self.low_rank.delta(start, stop, base).add_(base).mul_(run).sub_(base)

    def whole(self, device: torch.device = CPU) -> Tensor:
        """fp32 [n, m]: the same bytes."""
        shape = self.low_rank.shape
        base = self.read_base(0, shape[0] * shape[1]).view(shape).to(device)
        factor = (self.factor() if self.by_column else self.factor()[:, None]).to(device)
        return self.low_rank.whole(device).add_(base).mul_(factor).sub_(base)

    def factor(self) -> Tensor:
        """m ÷ ‖v‖, fp32, one a row or column; computed once."""
        if not self._factor:
            norm = self._squares().sqrt_().to(torch.float32)
            self._factor.append(self.read_magnitude() / norm)
        return self._factor[0]

    def _squares(self) -> Tensor:
        """float64: Σ v² of every row or column."""
        rows, columns = self.low_rank.shape
        change = self.low_rank.whole()
        sums = []
        for first in range(0, rows, BLOCK):
            last = min(first + BLOCK, rows)
            base = self.read_base(first * columns, last * columns).view(-1, columns)
            squares = change[first:last].add_(base).to(torch.float64).square_()
            sums.append(tree_sum(squares if self.by_column else squares.t()))
        return tree_sum(torch.stack(sums)) if self.by_column else torch.cat(sums)


def tree_sum(values: Tensor) -> Tensor:
    """[n, m] → [m]: sums over the first dimension, by halves of a power of two padded with zeros: a fixed order."""
    height = 1 << max(0, values.shape[0] - 1).bit_length()
    if height == 1:
        return values[0].clone()
    half = height // 2
    total = values[:half].clone()
    total[: values.shape[0] - half] += values[half:]
    while half > 1:
        half //= 2
        total = total[:half] + total[half : 2 * half]
    return total[0]
