"""Lengths and angles of tensors as vectors: dot products kept from merge to merge, and the length of a weighted sum.

float64 in reductions.py's order, so the same everywhere. It knows no method.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from automerge.merge.measure.reductions import dot, total
from automerge.merge.values import Values
from automerge.merge.view import View

Matrix = list[list[float]]


def gram(view: View, vectors: Sequence[Values]) -> Matrix:
    """G_ij = v_i · v_j. What involves only the base and sources with a key is measured once."""
    size = len(vectors)
    products = [[0.0] * size for _ in vectors]
    for i, one in enumerate(vectors):
        for j in range(i, size):
            products[i][j] = products[j][i] = _kept_dot(view, one, vectors[j])
    return products


def cosine(product: float, one: float, other: float) -> float:
    """v · w ÷ (|v| · |w|) in [−1, 1]; the two lengths are not 0."""
    return max(-1.0, min(1.0, product / (one * other)))


def length_of_sum(vectors: Sequence[Values], factors: Sequence[float]) -> float:
    """|Σ f_i v_i|, element by element, so that vectors that cancel give 0."""

    def squares(start: int, stop: int) -> Tensor:
        summed = vectors[0].read(start, stop).double().mul_(factors[0])
        for vector, factor in zip(vectors[1:], factors[1:], strict=True):
            summed += vector.read(start, stop).double().mul_(factor)
        return summed.square_()

    return math.sqrt(total(vectors[0].n, squares)) if vectors else 0.0


def _kept_dot(view: View, one: Values, other: Values) -> float:
    if any(values.operand is not None and values.key is None for values in (one, other)):
        return dot(one, other)
    key = ("dot", view.name, _key(one), _key(other))
    if key not in view.kept:
        view.kept[key] = dot(one, other)
    product: float = view.kept[key]
    return product


def _key(values: Values) -> tuple[str, ...]:
    return (values.what,) if values.operand is None else (values.what, *(values.key or ()))
