"""DARE with TIES: random drop in place of the trim, then sign election. Papers: arXiv:2311.03099 and arXiv:2306.01708.

    δ̂_i   = m_i δ_i ÷ (1 − p_i)      (the division only with `rescale`)
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
The divisor sums the weights w_i, not the rescaled ones. `dialect: mergekit` rescales each tensor to its norm before the
drop (`rescale_norm`: l1, l2 or linf), and does not normalize unless told to.
"""

from automerge.merge.methods.parts import NORMALIZE_AGREED, RESCALE, RESCALE_NORM, check_rescale_norm, dare_terms
from automerge.merge.plan import Plan
from automerge.merge.registry import DIALECT, DROP, LAMBDA, WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """Thinned deltas, with election."""
    divide = bool(view.options["normalize"])
    return Plan("delta", dare_terms(view), elect=True, divide=divide, factor=view.values["lambda"])


register(
    Method(
        name="dare_ties",
        about="task vectors randomly thinned and rescaled, averaged where their signs agree",
        paper="arXiv:2311.03099, arXiv:2306.01708",
        parameters=(WEIGHT, DROP, LAMBDA),
        options=(DIALECT, NORMALIZE_AGREED, RESCALE, RESCALE_NORM),
        plan=plan,
        check=check_rescale_norm,
        random=True,
    )
)
