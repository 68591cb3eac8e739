"""NearSwap: take the source where it is near the base. Source: alchemonaut's QuartetAnemoi
(https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001).

    merged = w x + (1 − w) θ,   w = min(1, t ÷ max(|δ|, 1e-6))
t ÷ is one reciprocal and one product, both rounded to fp32. At t = 0 it is the base. mergekit's is the same.
"""

import torch
from torch import Tensor

from automerge.merge.plan import Elementwise
from automerge.merge.registry import Method, Parameter, register
from automerge.merge.steps import fp32
from automerge.merge.view import View

T = Parameter("t", "merge", 1e-4, 0.0, 1000.0, "how far the source may be to be taken", (1e-5, 1e-2))
NEAREST = 1e-6


def plan(view: View) -> Elementwise:
    """Element by element: the factor depends on the delta's size."""
    (source,) = view.sources
    t = fp32(view.values["t"])

    def merged(start: int, stop: int) -> Tensor:
        base, weights = view.base_values.read(start, stop), source.weights.read(start, stop)
        far = (base - weights).abs_().clamp_(min=fp32(NEAREST))
        share = torch.ones_like(far).div_(far).mul_(t).clamp_(min=0.0, max=1.0)
        return weights.mul_(share).add_(base.mul_(1.0 - share))

    return merged


register(
    Method(
        name="nearswap",
        about="the source where it is near the base, less of it where it is far",
        paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
        parameters=(T,),
        plan=plan,
        sources=(1, 1),
    )
)
