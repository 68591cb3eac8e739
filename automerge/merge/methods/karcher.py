"""Karcher mean: the point of the unit sphere nearest to all models' directions along arcs. Paper: arXiv:2603.04972.

    merged = L · m,   L = Σ |x_i| ÷ N,   m = argmin Σ arc(m, u_i)²,   u_i = x_i ÷ |x_i|
m is found from the mean of the u_i, brought to length 1, by up to `max_iter` steps
    T = Σ_i θ_i ÷ sin θ_i · (u_i − cos θ_i m) ÷ N',  cos θ_i = m · u_i;   m ← cos|T| m + sin|T| T ÷ |T|
until |T| < `tol`. The N' models of a length above `tol` have a direction; without any the result is 0. Where the mean
is shorter than `tol`, m starts at the first. Each tensor is one vector, and the models count alike; the base is one of
them `with_base`. One model alone is itself.

m stays in the span of the u_i, so it is found from their dot products, on the host in float64, and merged is one
weighted sum. mergekit's is the same in fp32, element by element; it counts a base model that it is given. A model
opposite to m (sin θ below `tol`) gives T no direction and is left out of it.
"""

import math

from automerge.merge.measure.geometry import Matrix, gram
from automerge.merge.plan import Plan, Term
from automerge.merge.registry import Method, Option, Parameter, register
from automerge.merge.view import View

MAX_ITER = Parameter("max_iter", "merge", 10.0, 0.0, 1000.0, "most steps, rounded down", (1.0, 20.0))
TOL = Parameter("tol", "merge", 1e-5, 1e-12, 1.0, "angles and lengths below this are 0", (1e-7, 1e-4))
WITH_BASE = Option("with_base", False, "the base is one more model")


def plan(view: View) -> Plan:
    """A weighted sum of weights."""
    models = [source.weights for source in view.sources] + ([view.base_values] if view.options["with_base"] else [])
    if len(models) == 1:
        return Plan("weights", (Term(view.sources[0].name, 1.0),), base=0.0)
    products = gram(view, models)
    factors = mean_factors(products, int(view.values["max_iter"]), view.values["tol"])
    base = factors.pop() if view.options["with_base"] else 0.0
    names = [source.name for source in view.sources]
    terms = tuple(Term(name, factor) for name, factor in zip(names, factors, strict=True) if factor != 0.0)
    return Plan("weights", terms, base=base)


def mean_factors(products: Matrix, max_iter: int, tol: float) -> list[float]:
    """What each model is multiplied by, from their dot products [N][N]."""
    lengths = [math.sqrt(products[i][i]) for i in range(len(products))]
    valid = [i for i, length in enumerate(lengths) if length > tol]
    factors = [0.0] * len(products)
    if not valid:
        return factors
    cosines = [[1.0 if i == j else products[i][j] / (lengths[i] * lengths[j]) for j in valid] for i in valid]
    scale = sum(lengths) / len(lengths)
    for i, share in zip(valid, _mean(cosines, max_iter, tol), strict=True):
        factors[i] = scale * share / lengths[i]
    return factors


def _mean(cosines: Matrix, max_iter: int, tol: float) -> list[float]:
    """m as a sum of the units, from their cosines."""
    n = len(cosines)
    mean = [1.0 / n] * n
    length = _length(mean, cosines)
    mean = [part / length for part in mean] if length >= tol else [1.0] + [0.0] * (n - 1)
    for _ in range(max_iter):
        tangent = _tangent(mean, cosines, tol)
        length = _length(tangent, cosines)
        if length < tol:
            break
        mean = [math.cos(length) * m + math.sin(length) * t / length for m, t in zip(mean, tangent, strict=True)]
        length = _length(mean, cosines)
        mean = [part / length for part in mean] if length > tol else mean
    return mean


def _tangent(mean: list[float], cosines: Matrix, tol: float) -> list[float]:
    n = len(mean)
    tangent = [0.0] * n
    for i, row in enumerate(cosines):
        cos = max(-1.0, min(1.0, sum(m * c for m, c in zip(mean, row, strict=True))))
        angle = math.acos(cos)
        if angle < tol or math.sin(angle) < tol:
            continue
        step = angle / math.sin(angle) / n
        tangent = [t - step * cos * m for t, m in zip(tangent, mean, strict=True)]
        tangent[i] += step
    return tangent


def _length(parts: list[float], cosines: Matrix) -> float:
    rows = (sum(c * part for c, part in zip(row, parts, strict=True)) for row in cosines)
    return math.sqrt(max(0.0, sum(part * row for part, row in zip(parts, rows, strict=True))))


register(
    Method(
        name="karcher",
        about="mean of the models' directions on the sphere, with their mean length",
        paper="arXiv:2603.04972",
        parameters=(MAX_ITER, TOL),
        options=(WITH_BASE,),
        plan=plan,
    )
)
