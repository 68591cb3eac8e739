"""What an adapter may do to one tensor of the base, other than a low-rank product: replace it, replace some of its
rows, or add a vector. They know no files.

Each gives `delta(start, stop, base)`, fp32 [stop − start] of δ's flat elements, where `base` holds the base's fp32
values of the same elements; and `whole(device)`, the same bytes for the whole tensor.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from automerge.merge.sources.source import CPU


class Change(Protocol):
    """What LowRank and Dora are as well."""

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor: ...

    def whole(self, device: torch.device = CPU) -> Tensor: ...


@dataclass(frozen=True)
class Saved:
    """The whole tensor is the adapter's own (modules_to_save, trained biases). `read` gives it as it is stored."""

    read: Callable[[], Tensor]
    read_base: Callable[[int, int], Tensor]

    def weights(self, start: int, stop: int, device: torch.device) -> Tensor:
        """fp32 [stop − start]: its own values."""
        return self.read().reshape(-1)[start:stop].to(device, torch.float32, copy=True)

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor:
        """x − θ."""
        return self.weights(start, stop, base.device).sub_(base)

    def whole(self, device: torch.device = CPU) -> Tensor:
        """fp32, in the tensor's shape."""
        stored = self.read()
        return self.delta(0, stored.numel(), self.read_base(0, stored.numel()).to(device)).view(stored.shape)


@dataclass(frozen=True)
class SavedRows:
    """Some rows of an embedding [n, m] are the adapter's own: `read` gives them, fp32 [len(rows), m].

    `rows` ascend; `places` says which of the stored rows each is.
    """

    rows: tuple[int, ...]
    places: tuple[int, ...]
    read: Callable[[], Tensor]
    read_base: Callable[[int, int], Tensor]
    shape: tuple[int, int]

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor:
        """x − θ in those rows, +0.0 elsewhere."""
        columns = self.shape[1]
        result = torch.zeros_like(base)
        first, last = start // columns, -(-stop // columns)
        chosen = range(bisect_left(self.rows, first), bisect_left(self.rows, last))
        stored = self.read().to(base.device) if chosen else base
        for n in chosen:
            row = self.rows[n] * columns
            begin, end = max(start, row), min(stop, row + columns)
            here = slice(begin - start, end - start)
            torch.sub(stored[self.places[n], begin - row : end - row], base[here], out=result[here])
        return result

    def joined(self, other: "SavedRows") -> "SavedRows | None":
        """The rows of both; None where a row that both have differs."""
        place = {row: len(self.rows) + at for row, at in zip(other.rows, other.places, strict=True)}
        place |= dict(zip(self.rows, self.places, strict=True))
        ours, theirs = self.read(), other.read()
        for row, at in zip(other.rows, other.places, strict=True):
            if place[row] < len(self.rows) and not torch.equal(ours[place[row]], theirs[at]):
                return None
        rows = tuple(sorted(place))
        places = tuple(place[row] for row in rows)
        return SavedRows(rows, places, lambda: torch.cat([self.read(), other.read()]), self.read_base, self.shape)

    def whole(self, device: torch.device = CPU) -> Tensor:
        """fp32 [n, m]."""
        size = self.shape[0] * self.shape[1]
        return self.delta(0, size, self.read_base(0, size).to(device)).view(self.shape)


@dataclass(frozen=True)
class Added:
    """s · b is added to a bias (lora_bias): `read` gives b, fp32 [n]; s is rounded to fp32 once."""

    read: Callable[[], Tensor]
    scale: float

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor:
        """One rounding a product."""
        return self.whole(base.device)[start:stop]

    def whole(self, device: torch.device = CPU) -> Tensor:
        """fp32 [n]."""
        return self.read().to(device) * self.scale
