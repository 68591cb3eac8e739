"""MergeLM's magnitude mask: drop the smallest elements of each delta, then add. Source: MergeLM
(github.com/yule-BUAA/MergeLM, its mask strategy `magnitude`), a baseline of arXiv:2311.03099 (L. Yu et al., 2024).

    merged = θ + λ Σ w_i m_i δ_i ÷ (1 − p_i) ÷ D      (the first division only with `rescale`)
m_i is 0 for the int(p_i · n) elements of smallest |δ| in a tensor of n; those equal to the smallest kept stay with it
(MergeLM drops those equal to the largest dropped). p is `drop`, here a share and no probability. D is 1, or Σ w_i with
`normalize`. MergeLM can hand the masked models to other methods than this sum.
"""

from automerge.merge.measure.orders import kth_largest
from automerge.merge.methods.parts import NORMALIZE_OFF, sum_of_weights
from automerge.merge.plan import Band, Plan, Term
from automerge.merge.registry import LAMBDA, WEIGHT, Method, Option, Parameter, register
from automerge.merge.view import SourceView, View

DROP = Parameter("drop", "source", 0.0, 0.0, 1.0, "share of delta elements dropped, the smallest", (0.0, 0.95), True)
RESCALE = Option("rescale", False, "make up for what was dropped")


def plan(view: View) -> Plan:
    """A weighted sum of trimmed deltas."""
    terms = tuple(_term(view, source) for source in view.active())
    return Plan("delta", terms, divisor=sum_of_weights(view), factor=view.values["lambda"])


def _term(view: View, source: SourceView) -> Term:
    weight, p = source.values["weight"], source.values["drop"]
    factor = weight / (1.0 - p) if view.options["rescale"] else weight
    threshold = kth_largest(source.delta, view.n - int(p * view.n), view.kept)
    return Term(source.name, factor, mask=Band(threshold) if threshold > 0.0 else None)


register(
    Method(
        name="magnitude_linear",
        about="base plus weighted task vectors without their smallest elements",
        paper="arXiv:2311.03099",
        parameters=(WEIGHT, DROP, LAMBDA),
        options=(NORMALIZE_OFF, RESCALE),
        plan=plan,
    )
)
