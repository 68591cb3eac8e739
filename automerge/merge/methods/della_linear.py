"""DELLA's drop without election: a weighted sum of thinned deltas. Paper: arXiv:2406.11617 (P. T. Deep et al., 2024).

    merged = θ + λ Σ w_i m_i δ_i ÷ (1 − p_r) ÷ D      (the first division only with `rescale`)
m_i and p_r are della.py's, as is what `dialect: mergekit` changes. D is 1, or Σ w_i with `normalize`. The name and the
form are mergekit's.
"""

from automerge.merge.methods.della import EPSILON, check, magprune_terms
from automerge.merge.methods.parts import NORMALIZE_OFF, RESCALE, RESCALE_NORM, sum_of_weights
from automerge.merge.plan import Plan
from automerge.merge.registry import DIALECT, DROP, LAMBDA, WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """A weighted sum of thinned deltas."""
    return Plan("delta", magprune_terms(view), divisor=sum_of_weights(view), factor=view.values["lambda"])


register(
    Method(
        name="della_linear",
        about="base plus weighted task vectors, thinned at random, small elements more often",
        paper="arXiv:2406.11617",
        parameters=(WEIGHT, DROP, EPSILON, LAMBDA),
        options=(DIALECT, NORMALIZE_OFF, RESCALE, RESCALE_NORM),
        plan=plan,
        check=check,
        random=True,
    )
)
