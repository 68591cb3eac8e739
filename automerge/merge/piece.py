"""One run of elements of one tensor, with everything a method needs to merge it. It knows no method and no file.

| symbol | meaning | here |
|---|---|---|
| n | elements of the piece | `base.numel()` |
| θ | base, fp32 [n] | `base` |
| δ_i | source i − base, fp32 [n] | `SourcePiece.delta` |
| x_i | source i, fp32 [n] | `SourcePiece.weights` |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from automerge.merge.masks import MaskStream


def fp32(value: float) -> float:
    """The value rounded once to fp32, as every scalar is before it meets a tensor."""
    return float(np.float32(value))


@dataclass(frozen=True)
class SourcePiece:
    """One source's part. `read_delta` gives None where the source leaves the tensor as it is (δ = 0)."""

    values: Mapping[str, float]  # the per-source parameters
    read_delta: Callable[[], Tensor | None]
    read_weights: Callable[[], Tensor]
    stream: MaskStream
    start: int  # flat index of the first element
    length: int
    threshold: float = 0.0  # smallest magnitude that is kept, where the method trims

    def dropped(self, level: int, like: Tensor) -> Tensor:
        """bool [n]: what DARE drops at drop level T."""
        return self.stream.dropped(level, self.start, self.length, like.device)


@dataclass(frozen=True)
class Piece:
    """A run of elements of one tensor. Sources of weight 0 and sources that change nothing may be skipped."""

    base: Tensor
    sources: tuple[SourcePiece, ...]  # in the recipe's order, which is by name
    values: Mapping[str, float]  # the per-merge parameters
    options: Mapping[str, bool]
