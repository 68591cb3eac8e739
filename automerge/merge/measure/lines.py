"""A tensor cut into vectors: its rows (along the last dimension) or its columns (along the first), with their dots.

A tensor of one dimension, or of none, is one vector either way. Sums are float64 in an order that the shape alone
fixes: up to RUN neighbours are filled up with 0 to a power of two, halved and the halves added until one number a
vector is left; such sums are added one after another. It knows no method.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.merge.values import Values

RUN = 1 << 16


@dataclass(frozen=True)
class Lines:
    """`count` vectors of `length` elements; of columns, neighbours belong to different ones."""

    count: int
    length: int
    columns: bool = False

    def index(self, start: int, stop: int, device: torch.device) -> Tensor:
        """int64 [stop − start]: the number of the vector of each of the flat elements start … stop − 1."""
        flat = torch.arange(start, stop, device=device)
        return flat % self.count if self.columns else flat // self.length

    def dots(self, one: Values, other: Values) -> list[float]:
        """v · w, one for each vector."""
        if not self.count * self.length:
            return [0.0] * self.count
        return self._down(one, other) if self.columns else self._along(one, other)

    def _along(self, one: Values, other: Values) -> list[float]:
        if self.length > RUN:  # a vector at a time, in parts
            return [sum(self._parts(one, other, line * self.length)) for line in range(self.count)]
        step = max(1, RUN // self.length) * self.length
        sums: list[float] = []
        for start in range(0, one.n, step):
            sums += halved(_products(one, other, start, min(start + step, one.n)).view(-1, self.length)).tolist()
        return sums

    def _parts(self, one: Values, other: Values, first: int) -> list[float]:
        cuts = range(first, first + self.length, RUN)
        ends = [min(cut + RUN, first + self.length) for cut in cuts]
        return [float(halved(_products(one, other, a, b).view(1, -1))) for a, b in zip(cuts, ends, strict=True)]

    def _down(self, one: Values, other: Values) -> list[float]:
        sums = torch.zeros(self.count, dtype=torch.float64, device=one.base.device)
        step = max(1, RUN // self.count) * self.count
        for start in range(0, one.n, step):
            sums += halved(_products(one, other, start, min(start + step, one.n)).view(-1, self.count).T)
        result: list[float] = sums.tolist()
        return result


def rows(shape: tuple[int, ...]) -> Lines:
    """The vectors along the last dimension."""
    length = shape[-1] if shape else 1
    return Lines(torch.Size(shape[:-1]).numel(), length)


def columns(shape: tuple[int, ...]) -> Lines:
    """The vectors along the first dimension."""
    return rows(shape) if len(shape) < 2 else Lines(torch.Size(shape[1:]).numel(), shape[0], columns=True)


def halved(terms: Tensor) -> Tensor:
    """float64 [lines]: the sum of each row of float64 [lines, elements], halves on halves."""
    short = (1 << max(terms.shape[1] - 1, 0).bit_length()) - terms.shape[1]
    summed = torch.nn.functional.pad(terms, (0, short))
    while summed.shape[1] > 1:
        half = summed.shape[1] // 2
        summed = summed[:, :half] + summed[:, half:]
    return summed[:, 0]


def _products(one: Values, other: Values, start: int, stop: int) -> Tensor:
    return one.read(start, stop).double().mul_(other.read(start, stop).double())
