"""DARE: drop delta elements at random, rescale the rest, add. Paper: arXiv:2311.03099 (L. Yu et al., 2024), eqs. 1–3.

    merged = θ + λ Σ w_i m_i δ_i ÷ (1 − p_i) ÷ D      (the first division only with `rescale`)
m_i is 0 with probability p_i, else 1 (masks.py). p_i is taken in steps of 1/65536. D is 1, or Σ w_i with `normalize`.
`dialect: mergekit` rescales each tensor to its norm before the drop, Σ|δ| ÷ Σ|mδ| (`rescale_norm`: l1; l2; linf, the
largest magnitude), in place of 1 ÷ (1 − p).
"""

from automerge.merge.methods.parts import (
    NORMALIZE_OFF,
    RESCALE,
    RESCALE_NORM,
    check_rescale_norm,
    dare_terms,
    sum_of_weights,
)
from automerge.merge.plan import Plan
from automerge.merge.registry import DIALECT, DROP, LAMBDA, WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """A weighted sum of thinned deltas."""
    return Plan("delta", dare_terms(view), divisor=sum_of_weights(view), factor=view.values["lambda"])


register(
    Method(
        name="dare_linear",
        about="base plus weighted task vectors, randomly thinned and rescaled",
        paper="arXiv:2311.03099",
        parameters=(WEIGHT, DROP, LAMBDA),
        options=(DIALECT, NORMALIZE_OFF, RESCALE, RESCALE_NORM),
        plan=plan,
        check=check_rescale_norm,
        random=True,
    )
)
