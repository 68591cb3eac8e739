"""Model Stock: between the base and the sources' average, as far as their angles say. Paper: arXiv:2403.19522
(D.-H. Jang et al., 2024).

    merged = t · Σ x_i ÷ N + (1 − t) · θ,   t = N c ÷ (1 + (N − 1) c)
c is the mean cosine of the pairs of deltas, δ_a · δ_b ÷ (|δ_a| |δ_b|); a delta of 0 has cosine 0 with every other.
Where |1 + (N − 1) c| < 1e-6, t is 0. A negative c gives a negative t, which is not clipped. Each tensor is one vector;
with `filter_wise` each row (last dimension) is one, with a t of its own.
`dialect: mergekit` takes |δ_a| |δ_b| as at least 1e-6, which lowers c for small tensors.
"""

import math
from itertools import combinations

import torch
from torch import Tensor

from automerge.merge.measure.geometry import cosine, gram
from automerge.merge.measure.lines import rows
from automerge.merge.methods.parts import FILTER_WISE
from automerge.merge.plan import Elementwise, Plan, Term
from automerge.merge.registry import DIALECT, Method, register
from automerge.merge.steps import divide_, fp32, total
from automerge.merge.view import View, Work

SMALLEST_DENOMINATOR = 1e-6
SMALLEST_PRODUCT = 1e-6  # of two lengths, in mergekit


def plan(view: View) -> Work:
    """A weighted sum of weights and the base; row by row, element by element."""
    if view.options["filter_wise"]:
        return _by_rows(view)
    count = len(view.sources)
    g = gram(view, [source.delta for source in view.sources])
    t = fp32(ratio([_cosine(view, g[a][a], g[a][b], g[b][b]) for a, b in combinations(range(count), 2)], count))
    terms = tuple(Term(source.name, 1.0) for source in view.sources)
    return Plan("weights", terms, divisor=float(count), base=1.0 - t, factor=t)


def ratio(cosines: list[float], count: int) -> float:
    """t, from the cosines of all pairs of `count` deltas."""
    c = sum(cosines) / len(cosines)
    denominator = 1.0 + (count - 1) * c
    return 0.0 if abs(denominator) < SMALLEST_DENOMINATOR else count * c / denominator


def _cosine(view: View, square: float, product: float, other_square: float) -> float:
    lengths = math.sqrt(square) * math.sqrt(other_square)
    if view.mergekit:
        lengths = max(lengths, SMALLEST_PRODUCT)
    return cosine(product, lengths, 1.0) if lengths else 0.0


def _by_rows(view: View) -> Elementwise:
    lines = rows(view.shape)
    deltas = [source.delta for source in view.sources]
    squares = [lines.dots(delta, delta) for delta in deltas]
    pairs = [(squares[a], lines.dots(deltas[a], deltas[b]), squares[b]) for a, b in combinations(range(len(deltas)), 2)]
    numbers = [
        ratio([_cosine(view, *(column[row] for column in pair)) for pair in pairs], len(deltas))
        for row in range(lines.count)
    ]
    device = view.base.device
    table = torch.tensor(numbers, dtype=torch.float32, device=device)

    def merged(start: int, stop: int) -> Tensor:
        t = table[lines.index(start, stop, device)]
        base = view.base_values.read(start, stop)
        mean = divide_(total([source.weights.read(start, stop) for source in view.sources], base), len(deltas))
        return mean.mul_(t).add_(base.mul_(1.0 - t))

    return merged


register(
    Method(
        name="model_stock",
        about="between the base and the average of the sources, by the angles of their task vectors",
        paper="arXiv:2403.19522",
        parameters=(),
        options=(DIALECT, FILTER_WISE),
        plan=plan,
        sources=(2, None),
    )
)
