"""Model Breadcrumbs with TIES: breadcrumbs.py's trim, then sign election. Papers: arXiv:2312.06795, arXiv:2306.01708.

    δ̂_i   = m_i δ_i, m_i as in breadcrumbs.py
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
`dialect: mergekit` does not normalize unless told to.
"""

from automerge.merge.methods.breadcrumbs import GAMMA, banded_terms
from automerge.merge.methods.parts import NORMALIZE_AGREED, RESCALE_NORM, RESCALE_OFF
from automerge.merge.plan import Plan
from automerge.merge.registry import DENSITY, DIALECT, LAMBDA, WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """What is left of the deltas, with election."""
    divide = bool(view.options["normalize"])
    return Plan("delta", banded_terms(view), elect=True, divide=divide, factor=view.values["lambda"])


register(
    Method(
        name="breadcrumbs_ties",
        about="task vectors without their largest and smallest elements, averaged where their signs agree",
        paper="arXiv:2312.06795, arXiv:2306.01708",
        parameters=(WEIGHT, DENSITY, GAMMA, LAMBDA),
        options=(DIALECT, NORMALIZE_AGREED, RESCALE_OFF, RESCALE_NORM),
        plan=plan,
    )
)
