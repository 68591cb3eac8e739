"""RAM (reinforced agent merging): average what several sources changed, take in full what one did. Paper:
arXiv:2601.13572.

    merged = θ + Σ_{i changed} δ_i ÷ c,   source i has changed an element where |δ_i| > ε;   c sources have
Nothing is added where none has. ε is `epsilon`. The sources count alike. mergekit's is the same.
"""

import torch
from torch import Tensor

from automerge.merge.plan import Elementwise
from automerge.merge.registry import Method, Parameter, register
from automerge.merge.steps import fp32
from automerge.merge.view import View

EPSILON = Parameter("epsilon", "merge", 1e-5, 0.0, 1000.0, "a delta element counts as changed above this", (1e-6, 1e-3))


def plan(view: View) -> Elementwise:
    """Element by element."""
    return shared_or_alone(view, [1.0] * len(view.sources))


def changes(view: View, start: int, stop: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """fp32 δ and bool "changed" for each source, fp32 c; all [stop − start]."""
    deltas = [source.delta.read(start, stop) for source in view.sources]
    changed = [delta.abs() > fp32(view.values["epsilon"]) for delta in deltas]
    count = torch.zeros_like(deltas[0])
    for one in changed:
        count.add_(one.to(torch.float32))
    return deltas, changed, count


def shared_or_alone(view: View, factors: list[float]) -> Elementwise:
    """θ + Σ δ_i ÷ c over those that changed an element, where there are several; where one did, θ + factor_i δ_i."""

    def merged(start: int, stop: int) -> Tensor:
        deltas, changed, count = changes(view, start, stop)
        summed = torch.zeros_like(count)
        for delta, own, factor in zip(deltas, changed, factors, strict=True):
            part = torch.where(count > 1.0, delta / count, delta * fp32(factor))
            summed.add_(part.masked_fill_(~own, 0.0))
        return summed.add_(view.base_values.read(start, stop))

    return merged


register(
    Method(
        name="ram",
        about="average of the task vectors that changed an element",
        paper="arXiv:2601.13572",
        parameters=(EPSILON,),
        plan=plan,
    )
)
