"""NuSLERP: along the arc between two task vectors, or two models, by their weights. Source: mergekit (C. Goddard).

    t      = w_1 ÷ (w_0 + w_1), or ½ where that sum is below 1e-6 in magnitude
    merged = θ + (sin((1 − t) Ω) v_0 + sin(t Ω) v_1) ÷ sin Ω,   cos Ω = v_0 · v_1 ÷ (|v_0| |v_1|)
v_i is δ_i, or with `on: weights` x_i, without θ; the sources are in the order of their names. Where cos Ω is ±1 to fp32
precision it is θ + (1 − t) v_0 + t v_1. A length below 1e-7 counts as 1e-7. `vectors` says what one vector is: the
whole `tensor`, each of its `rows` (along the last dimension) or of its `columns` (along the first). mergekit's is the
same: weights where no base model is given, rows for `nuslerp_flatten: false`, columns with `nuslerp_row_wise` too.
"""

import math

import torch
from torch import Tensor

from automerge.merge.measure.geometry import cosine, gram
from automerge.merge.measure.lines import columns, rows
from automerge.merge.plan import Elementwise, Plan, Term
from automerge.merge.registry import WEIGHT, Method, Option, register
from automerge.merge.steps import fp32
from automerge.merge.values import Values
from automerge.merge.view import View, Work

ON = Option("on", "delta", "what turns: task vectors, or the models' weights", ("delta", "weights"))
VECTORS = Option("vectors", "tensor", "what one vector is", ("tensor", "rows", "columns"))
SMALLEST_SUM = 1e-6
SHORTEST = 1e-7


def plan(view: View) -> Work:
    """A weighted sum of two vectors; of rows or columns, element by element."""
    one, other = (source.values["weight"] for source in view.sources)
    t = 0.5 if abs(one + other) < SMALLEST_SUM else other / (one + other)
    vectors = [source.delta if view.options["on"] == "delta" else source.weights for source in view.sources]
    if view.options["vectors"] != "tensor":
        return _by_lines(view, vectors, t)
    products = gram(view, vectors)
    first, second, divisor = factors(products[0][0], products[0][1], products[1][1], t)
    terms = [Term(source.name, k) for source, k in zip(view.sources, (first, second), strict=True) if k]
    delta = view.options["on"] == "delta"
    return Plan("delta" if delta else "weights", tuple(terms), divisor=divisor, base=1.0 if delta else 0.0)


def factors(square: float, product: float, other_square: float, t: float) -> tuple[float, float, float]:
    """The factors of v_0 and v_1, and the divisor, from |v_0|², v_0 · v_1 and |v_1|²."""
    cos = cosine(product, max(math.sqrt(square), SHORTEST), max(math.sqrt(other_square), SHORTEST))
    if abs(fp32(cos)) == 1.0:
        return 1.0 - t, t, 1.0
    angle = math.acos(cos)
    return math.sin((1.0 - t) * angle), math.sin(t * angle), math.sin(angle)


def _by_lines(view: View, vectors: list[Values], t: float) -> Elementwise:
    lines = (rows if view.options["vectors"] == "rows" else columns)(view.shape)
    one, other = vectors
    products = zip(lines.dots(one, one), lines.dots(one, other), lines.dots(other, other), strict=True)
    device = view.base.device
    table = torch.tensor([factors(*product, t) for product in products], dtype=torch.float32, device=device).view(-1, 3)
    delta = view.options["on"] == "delta"

    def merged(start: int, stop: int) -> Tensor:
        first, second, divisor = table[lines.index(start, stop, device)].unbind(1)
        summed = one.read(start, stop).mul_(first).add_(other.read(start, stop).mul_(second)).div_(divisor)
        return summed.add_(view.base_values.read(start, stop)) if delta else summed

    return merged


register(
    Method(
        name="nuslerp",
        about="along the arc between two task vectors, or two models",
        paper="https://github.com/arcee-ai/mergekit",
        parameters=(WEIGHT,),
        options=(ON, VECTORS),
        plan=plan,
        sources=(2, 2),
    )
)
