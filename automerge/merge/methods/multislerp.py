"""Multi-SLERP: the weighted mean of directions, with the weighted mean of lengths. Source: mergekit (C. Goddard,
https://goddard.blog/posts/multislerp-wow-what-a-cool-idea).

    merged = θ + L · m ÷ |m|,   m = Σ w_i v_i ÷ (|v_i| + ε),   L = Σ w_i |v_i|
v_i is δ_i, or with `on: weights` x_i, without θ. With `normalize` the w_i are first divided by their sum. Each tensor
is one vector. Where |m| < ε, directions cancel: of two sources it is θ + Σ w_i v_i, of more an error; where every v_i
is 0 it is θ (with more than two sources an error in mergekit). One source alone is itself.

mergekit's is the same, written as a mean on the tangent space at m ÷ |m|. That mean is 0 but for rounding while ε is
far below the lengths, since m is itself the weighted sum of the directions; here it is left out.
"""

import math

from automerge.errors import MergeError
from automerge.merge.measure.geometry import gram, length_of_sum
from automerge.merge.methods.nuslerp import ON
from automerge.merge.methods.parts import NORMALIZE_SUM, check_weight_sum
from automerge.merge.plan import Plan, Term
from automerge.merge.registry import WEIGHT, Method, Parameter, register
from automerge.merge.view import View

EPSILON = Parameter("eps", "merge", 1e-8, 0.0, 1.0, "added to lengths that divide", (1e-10, 1e-6))


def plan(view: View) -> Plan:
    """A weighted sum of vectors."""
    if len(view.sources) == 1:
        return Plan("weights", (Term(view.sources[0].name, 1.0),), base=0.0)
    factors = _factors(view)
    names = [source.name for source in view.sources]
    terms = tuple(Term(name, factor) for name, factor in zip(names, factors, strict=True) if factor != 0.0)
    delta = view.options["on"] == "delta"
    return Plan("delta" if delta else "weights", terms, base=1.0 if delta else 0.0)


def _factors(view: View) -> list[float]:
    vectors = [source.delta if view.options["on"] == "delta" else source.weights for source in view.sources]
    products = gram(view, vectors)
    lengths = [math.sqrt(products[i][i]) for i in range(len(vectors))]
    weights = [source.values["weight"] for source in view.sources]
    total = sum(weights) if view.options["normalize"] else 1.0
    weights = [weight / total for weight in weights]
    if not any(lengths):
        return [0.0] * len(vectors)
    eps = view.values["eps"]
    directions = [w / (length + eps) if length else 0.0 for w, length in zip(weights, lengths, strict=True)]
    mean = length_of_sum(vectors, directions)
    if mean <= 0.0 or mean < eps:
        if len(vectors) == 2:
            return weights
        hint = "Change the weights: these directions, so weighted, cancel."
        raise MergeError("multislerp: the weighted mean of the directions is 0", where=view.name, hint=hint)
    length = sum(w * length for w, length in zip(weights, lengths, strict=True))
    return [length * direction / mean for direction in directions]


register(
    Method(
        name="multislerp",
        about="mean direction and mean length of several task vectors, or models",
        paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
        parameters=(WEIGHT, EPSILON),
        options=(ON, NORMALIZE_SUM),
        plan=plan,
        check=check_weight_sum,
    )
)
