"""The pure steps methods are composed of: coefficient, drop, trim, elect, combine. They know no method, file or model.

The order of maths, which every kernel repeats bit for bit. All of it is fp32, one rounding an operation, never a fused
multiply-add, a reciprocal instead of a division, or a sum in another order:
  1. δ = x − θ, both converted to fp32 first. Host scalars are float64, rounded to fp32 once, when they meet a tensor.
  2. contribution c = k · δ; where the element is dropped or trimmed, c = +0.0.
  3. sums start at +0.0 and take the sources in the order of their names; a source of coefficient 0 is left out.
  4. merged = θ + λ · sum, then one rounding to the output dtype.
Shapes: every tensor is [n].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.merge.masks import keep_rate
from automerge.merge.piece import fp32

SMALLEST_DIVISOR = 1e-8  # below this a sum of weights counts as zero


def coefficient(weight: float, level: int, rescale: bool) -> float:
    """w, or DARE's w / (1 − T/65536) in float64 (arXiv:2311.03099, eq. 2, with the weight folded in)."""
    return weight / keep_rate(level) if rescale else weight


def scale(delta: Tensor, factor: float) -> Tensor:
    """k · δ, with k rounded to fp32."""
    return delta * fp32(factor)


def drop(contribution: Tensor, dropped: Tensor) -> Tensor:
    """+0.0 where dropped. Works in place."""
    return contribution.masked_fill_(dropped, 0.0)


def trim(contribution: Tensor, delta: Tensor, threshold: float) -> Tensor:
    """+0.0 where |δ| < threshold (TIES, arXiv:2306.01708, step 1). Works in place."""
    return contribution.masked_fill_(delta.abs() < threshold, 0.0)


def total(contributions: Sequence[Tensor], like: Tensor) -> Tensor:
    """Their sum, from +0.0, in the order given."""
    result = torch.zeros_like(like)
    for contribution in contributions:
        result.add_(contribution)
    return result


def elect(contributions: Sequence[Tensor], like: Tensor) -> Tensor:
    """bool [n]: True where the elected sign is +, which is where Σ c ≥ 0 (TIES step 2, signs of weighted deltas)."""
    return total(contributions, like) >= 0.0


def combine(contributions: Sequence[Tensor], weights: Sequence[float], positive: Tensor, normalize: bool) -> Tensor:
    """Sum of the contributions that have the elected sign, ÷ Σ of their weights when normalizing (TIES step 3).

    A contribution of zero has no sign and takes no part; a divisor below 1e-8 in magnitude counts as 1.
    """
    result = torch.zeros_like(positive, dtype=torch.float32)
    divisor = torch.zeros_like(result) if normalize else None
    for contribution, weight in zip(contributions, weights, strict=True):
        left_out = torch.where(positive, contribution <= 0.0, contribution >= 0.0)
        result.add_(contribution.masked_fill(left_out, 0.0))
        if divisor is not None:
            divisor.add_(torch.full_like(result, fp32(weight)).masked_fill_(left_out, 0.0))
    if divisor is not None:
        result.div_(divisor.masked_fill_(divisor.abs() < fp32(SMALLEST_DIVISOR), 1.0))
    return result


def add_to_base(base: Tensor, merged_delta: Tensor, factor: float) -> Tensor:
    """θ + λ · sum. Consumes `merged_delta`."""
    return merged_delta.mul_(fp32(factor)).add_(base)
