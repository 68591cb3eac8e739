"""Model Breadcrumbs: drop the largest elements of a delta as well as the smallest. Paper: arXiv:2312.06795
(M. Davari and E. Belilovsky, 2023).

    merged = θ + λ Σ w_i m_i δ_i ÷ D,   D = Σ w_i with `normalize` (1 where that is below 1e-8 in magnitude), else 1
In each tensor of n elements int(density_i · n) are kept: of those sorted by |δ|, the int(γ_i · n) largest are dropped,
and as many of the smallest as it takes; where that leaves too few, fewer of the largest. Elements equal to the smallest
or the largest kept stay together. γ is `gamma`, the share at the top (the paper writes the percentile, 1 − γ); with 0
no large element is dropped, and at density 1 none at all. With `rescale`, which the paper has not, what is kept is
scaled by ‖δ‖ ÷ ‖the int(density_i · n) kept‖. mergekit's is the same, but that it keeps only so many of the equal ones;
which, is left to its sort, which is not stable.
"""

import math

from automerge.merge.measure.norms import smallest_size
from automerge.merge.measure.orders import kth_largest
from automerge.merge.methods.parts import NORMALIZE_OFF, RESCALE_NORM, RESCALE_OFF, norm_ratio, sum_of_weights
from automerge.merge.plan import Band, Plan, Term
from automerge.merge.registry import DENSITY, LAMBDA, WEIGHT, Method, Parameter, register
from automerge.merge.view import SourceView, View

GAMMA = Parameter("gamma", "source", 0.01, 0.0, 1.0, "share of delta elements dropped, the largest", (0.0, 0.05))


def plan(view: View) -> Plan:
    """A weighted sum of what is left of the deltas."""
    return Plan("delta", banded_terms(view), divisor=sum_of_weights(view), factor=view.values["lambda"])


def banded_terms(view: View) -> tuple[Term, ...]:
    """Deltas without their largest and smallest elements; a source of which nothing is kept has no term."""
    return tuple(
        _term(view, source) for source in view.active() if source.values["density"] >= 1.0 or _kept(view, source)
    )


def _kept(view: View, source: SourceView) -> int:
    return int(source.values["density"] * view.n)


def _term(view: View, source: SourceView) -> Term:
    weight, kept = source.values["weight"], _kept(view, source)
    smallest = max(0, view.n - kept - int(source.values["gamma"] * view.n))
    largest = view.n - kept - smallest
    low = kth_largest(source.delta, view.n - smallest, view.kept)
    high = _high(view, source, largest)
    if low == 0.0 and high == math.inf:
        return Term(source.name, weight, weight)
    mask = Band(low, high)
    places = range(smallest, smallest + kept)
    factor = weight * norm_ratio(view, source, mask, places) if view.options["rescale"] else weight
    return Term(source.name, factor, weight, mask)


def _high(view: View, source: SourceView, dropped: int) -> float:
    """The largest |δ| when `dropped` larger ones are gone."""
    if not dropped:
        return math.inf
    if dropped == view.n - 1:
        return smallest_size(source.delta)
    return kth_largest(source.delta, dropped + 1, view.kept)


register(
    Method(
        name="breadcrumbs",
        about="base plus weighted task vectors without their largest and smallest elements",
        paper="arXiv:2312.06795",
        parameters=(WEIGHT, DENSITY, GAMMA, LAMBDA),
        options=(NORMALIZE_OFF, RESCALE_OFF, RESCALE_NORM),
        plan=plan,
    )
)
