"""Linear: the weighted average of the models. Paper: Model Soups, arXiv:2203.05482 (M. Wortsman et al., 2022).

    merged = Σ w_i x_i ÷ Σ w_i      (the division only with `normalize`; both sums in fp32, in the sources' order)
The base is not one of the x_i. A LoRA adapter's x is θ + δ. mergekit's linear is the same, but that its CPU build fuses
product and sum, and that a base model it is given is one more x_i.
"""

from automerge.merge.methods.parts import NORMALIZE_SUM, check_weight_sum, weights_added
from automerge.merge.plan import Plan, Term
from automerge.merge.registry import WEIGHT, Method, register
from automerge.merge.view import View


def plan(view: View) -> Plan:
    """A weighted sum of weights."""
    weights = {source.name: source.values["weight"] for source in view.sources}
    terms = tuple(Term(name, weight) for name, weight in weights.items() if weight != 0.0)
    return Plan("weights", terms, divisor=weights_added(view) if view.options["normalize"] else 1.0, base=0.0)


register(
    Method(
        name="linear",
        about="weighted average of the sources",
        paper="arXiv:2203.05482",
        parameters=(WEIGHT,),
        options=(NORMALIZE_SUM,),
        plan=plan,
        reads_base=False,
        check=check_weight_sum,
    )
)
