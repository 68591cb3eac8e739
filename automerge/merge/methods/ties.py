"""TIES: trim, elect a sign, average those that agree. Paper: arXiv:2306.01708 (P. Yadav et al., 2023), algorithm 1.

    δ̂_i   = δ_i where |δ_i| is among the int(density_i · n) largest of its tensor, else 0 (equal ones stay together)
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
Signs are elected on weighted deltas, so a negative weight flips a vote (PEFT elects before it weights). With `rescale`,
which the paper has not, δ̂ is scaled by ‖δ‖ ÷ ‖the int(density_i · n) largest of δ‖. `dialect: mergekit` keeps at least
one element unless the density is 0. mergekit itself keeps only so many of the elements equal to the threshold; which
they are is left to its sort, which is not stable.
"""

from automerge.merge.measure.orders import kth_largest
from automerge.merge.methods.parts import NORMALIZE_ON, RESCALE_NORM, RESCALE_OFF, norm_ratio
from automerge.merge.plan import Band, Plan, Term
from automerge.merge.registry import DENSITY, DIALECT, LAMBDA, WEIGHT, Method, register
from automerge.merge.view import SourceView, View


def plan(view: View) -> Plan:
    """Trimmed deltas, with election."""
    terms = tuple(_term(view, source) for source in view.active())
    divide = bool(view.options["normalize"])
    return Plan("delta", terms, elect=True, divide=divide, factor=view.values["lambda"])


def _term(view: View, source: SourceView) -> Term:
    weight, density = source.values["weight"], source.values["density"]
    kept = int(density * view.n)
    if view.mergekit and density > 0.0:
        kept = max(1, kept)
    threshold = kth_largest(source.delta, kept, view.kept)
    if threshold == 0.0:
        return Term(source.name, weight, weight)
    mask = Band(threshold)
    places = range(view.n - kept, view.n)
    factor = weight * norm_ratio(view, source, mask, places) if view.options["rescale"] else weight
    return Term(source.name, factor, weight, mask)


register(
    Method(
        name="ties",
        about="task vectors trimmed to their largest elements, averaged where their signs agree",
        paper="arXiv:2306.01708",
        parameters=(WEIGHT, DENSITY, LAMBDA),
        options=(DIALECT, NORMALIZE_ON, RESCALE_OFF, RESCALE_NORM),
        plan=plan,
    )
)
