"""Task arithmetic: the weighted sum of the task vectors. Paper: arXiv:2212.04089 (G. Ilharco et al., 2023).

    merged = θ + λ Σ w_i δ_i ÷ D,   D = Σ w_i with `normalize` (1 where that is below 1e-8 in magnitude), else 1
Nothing is dropped or trimmed. mergekit's is the same.
"""

from automerge.merge.methods.parts import NORMALIZE_OFF, sum_of_weights
from automerge.merge.plan import Plan, Term
from automerge.merge.registry import LAMBDA, WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """A weighted sum of deltas."""
    terms = tuple(Term(source.name, source.values["weight"]) for source in view.active())
    return Plan("delta", terms, divisor=sum_of_weights(view), factor=view.values["lambda"])


register(
    Method(
        name="task_arithmetic",
        about="base plus weighted task vectors",
        paper="arXiv:2212.04089",
        parameters=(WEIGHT, LAMBDA),
        options=(NORMALIZE_OFF,),
        plan=plan,
    )
)
