"""MergeLM's mask on fine-tuned weights: drop weights, not deltas, at random, then average. Source: MergeLM
(github.com/yule-BUAA/MergeLM, its `finetuned_weight` format), a comparison in arXiv:2311.03099 (L. Yu et al., 2024).

    merged = Σ w_i m_i x_i ÷ (1 − p_i) ÷ Σ w_i      (the divisions only with `rescale` and `normalize`)
m_i and p_i are dare_linear.py's. What every source drops is 0, not the base's value: the base takes no part. MergeLM
rescales only when told to, and can hand the masked weights to other methods than the average.
"""

from automerge.merge.masks import drop_level, keep_rate
from automerge.merge.methods.parts import NORMALIZE_SUM, RESCALE, check_weight_sum, weights_added
from automerge.merge.plan import Drop, Plan, Term
from automerge.merge.registry import DROP, WEIGHT, Method, register
from automerge.merge.view import SourceView, View


def plan(view: View) -> Plan:
    """A weighted sum of thinned weights."""
    terms = tuple(_term(view, source) for source in view.sources if source.values["weight"] != 0.0)
    divisor = weights_added(view) if view.options["normalize"] else 1.0
    return Plan("weights", terms, divisor=divisor, base=0.0)


def _term(view: View, source: SourceView) -> Term:
    weight, level = source.values["weight"], drop_level(source.values["drop"])
    if not level:
        return Term(source.name, weight)
    factor = weight / keep_rate(level) if view.options["rescale"] else weight
    return Term(source.name, factor, mask=Drop(level, source.stream))


register(
    Method(
        name="dare_weights",
        about="weighted average of the sources' weights, randomly thinned and rescaled",
        paper="arXiv:2311.03099",
        parameters=(WEIGHT, DROP),
        options=(NORMALIZE_SUM, RESCALE),
        plan=plan,
        check=check_weight_sum,
        reads_base=False,
        random=True,
    )
)
