"""Passthrough: one model as it is, times a factor. Source: mergekit, where stacks of layers are made of it.

    merged = scale · x
With `scale` 1 the bits are the source's own, −0 among them. The base takes no part. mergekit's is the same.
"""

from torch import Tensor

from automerge.merge.plan import Elementwise
from automerge.merge.registry import Method, Parameter, register
from automerge.merge.steps import fp32
from automerge.merge.view import View

SCALE = Parameter("scale", "source", 1.0, -1000.0, 1000.0, "factor of the weights", (0.0, 1.5))


def plan(view: View) -> Elementwise:
    """Element by element: a sum would begin at +0, and −0 would be lost."""
    (source,) = view.sources
    scale = fp32(source.values["scale"])

    def merged(start: int, stop: int) -> Tensor:
        return source.weights.read(start, stop).mul_(scale)

    return merged


register(
    Method(
        name="passthrough",
        about="one source as it is, or scaled",
        paper="https://github.com/arcee-ai/mergekit",
        parameters=(SCALE,),
        plan=plan,
        reads_base=False,
        sources=(1, 1),
    )
)
