"""The pure steps a plan is composed of, in torch: scale, mask, sum, elect, combine, add to the base.

The order of maths is plan.py's. They know no method, file or model. Every tensor is [n]; the results are fp32.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from automerge.merge.plan import SMALLEST_DIVISOR


def fp32(value: float) -> float:
    """The value rounded once to fp32, as every scalar is before it meets a tensor."""
    return float(np.float32(value))


def divide_(values: Tensor, divisor: float) -> Tensor:
    """values ÷ divisor, in place, correctly rounded: CUDA would multiply by the reciprocal of a host scalar."""
    return values.div_(torch.full((1,), fp32(divisor), device=values.device))


def total(contributions: Sequence[Tensor], like: Tensor) -> Tensor:
    """Their sum, from +0.0, in the order given."""
    result = torch.zeros_like(like)
    for contribution in contributions:
        result.add_(contribution)
    return result


def combine(contributions: Sequence[Tensor], weights: Sequence[float], like: Tensor, divide: bool) -> Tensor:
    """Sum of the contributions of the elected sign (TIES, arXiv:2306.01708, steps 2 and 3), ÷ Σ of their weights with
    `divide`. The sign is elected by the sum of the contributions, so a negative weight flips a vote.

    A contribution of zero has no sign and takes no part; a divisor below 1e-8 in magnitude counts as 1.
    """
    positive = total(contributions, like) >= 0.0
    result = torch.zeros_like(like)
    divisor = torch.zeros_like(like) if divide else None
    for contribution, weight in zip(contributions, weights, strict=True):
        left_out = torch.where(positive, contribution <= 0.0, contribution >= 0.0)
        result.add_(contribution.masked_fill(left_out, 0.0))
        if divisor is not None:
            divisor.add_(torch.full_like(result, fp32(weight)).masked_fill_(left_out, 0.0))
    if divisor is not None:
        result.div_(divisor.masked_fill_(divisor.abs() < fp32(SMALLEST_DIVISOR), 1.0))
    return result


def add_to_base(base: Tensor, merged: Tensor, base_factor: float, factor: float) -> Tensor:
    """b · θ + λ · S. Consumes `merged`."""
    merged.mul_(fp32(factor))
    if base_factor == 0.0:
        return merged
    return merged.add_(base if base_factor == 1.0 else base * fp32(base_factor))
