"""What several methods share: options, checks, DARE's terms, rescaling to a norm, the divisor of a weighted sum.

It registers nothing.
"""

from collections.abc import Iterable, Mapping

from automerge.errors import MergeError
from automerge.merge.masks import drop_level, keep_rate
from automerge.merge.measure.norms import NORMS, masked_norm, ranked_norm
from automerge.merge.plan import SMALLEST_DIVISOR, Band, Drop, Mask, Term
from automerge.merge.registry import Option
from automerge.merge.steps import fp32
from automerge.merge.view import SourceView, View
from automerge.recipe import Setting

BySource = Mapping[str, Mapping[str, float]]
ByName = Mapping[str, float]
Options = Mapping[str, Setting]

NORMALIZE_ON = Option("normalize", True, "divide by the sum of the weights that agree")
NORMALIZE_AGREED = Option("normalize", True, "divide by the sum of the weights that agree", mergekit=False)
NORMALIZE_OFF = Option("normalize", False, "divide by the sum of the weights")
NORMALIZE_SUM = Option("normalize", True, "divide by the sum of the weights")
RESCALE = Option("rescale", True, "make up for what was dropped")
RESCALE_OFF = Option("rescale", False, "bring what is kept of a tensor back to its norm before, as mergekit can")
RESCALE_NORM = Option("rescale_norm", "l1", "the norm that mergekit's rescaling keeps", NORMS)
FILTER_WISE = Option("filter_wise", False, "measure each row (last dimension) by itself")

SMALLEST_NORM = 1e-7  # mergekit rescales nothing whose norm, before or after, is below this


def sum_of_weights(view: View) -> float:
    """Σ w_i over all sources with `normalize`, 1 without, or where it is below 1e-8 in magnitude."""
    total = weights_added(view) if view.options["normalize"] else 1.0
    return 1.0 if abs(total) < fp32(SMALLEST_DIVISOR) else total


def weights_added(view: View) -> float:
    """Σ w_i in fp32: each weight is rounded, and they are added one after another, in the order of the sources; so
    0.7 + 0.4 + 0.3 is 1.4000001, as in mergekit."""
    return _added(source.values["weight"] for source in view.sources)


def _added(weights: Iterable[float]) -> float:
    total = 0.0
    for weight in weights:
        total = fp32(total + fp32(weight))
    return total


def check_weight_sum(sources: BySource, merge: ByName, options: Options) -> None:
    """Raises MergeError where the sum of the weights is to be divided by, and is 0."""
    weights = [sources[name]["weight"] for name in sorted(sources)]
    if options["normalize"] and min(abs(sum(weights)), abs(_added(weights))) < SMALLEST_DIVISOR:
        hint = "Change the weights, or set normalize to false."
        raise MergeError("the sum of the weights is to be divided by, and is 0", hint=hint)


def check_rescale_norm(sources: BySource, merge: ByName, options: Options) -> None:
    """Raises MergeError for a norm where the papers' rescaling, by 1 ÷ (1 − p), has none."""
    if options["rescale_norm"] != "l1" and options["dialect"] != "mergekit":
        message = f"rescale_norm {options['rescale_norm']}: the papers' dialect divides by 1 − p and keeps no norm"
        raise MergeError(message, hint="Set dialect to mergekit, or leave rescale_norm out.")


def norm_ratio(view: View, source: SourceView, mask: Mask | None, places: range | None = None) -> float:
    """‖δ‖ ÷ ‖mδ‖ in the norm that `rescale_norm` names, as mergekit rescales; 1 where either is below 1e-7.

    `places` are those a Band stands for among the δ sorted by size: mergekit keeps so many, and ‖mδ‖ is theirs, where
    the Band keeps more because of equal ones at its ends.
    """
    norm = str(view.options["rescale_norm"])
    before = masked_norm(source.delta, None, norm)
    if isinstance(mask, Band) and places is not None:
        after = ranked_norm(source.delta, mask, places, norm)
    else:
        after = masked_norm(source.delta, mask, norm)
    return 1.0 if before < SMALLEST_NORM or after < SMALLEST_NORM else before / after


def dare_terms(view: View) -> tuple[Term, ...]:
    """Randomly thinned deltas: k_i = w_i ÷ (1 − T_i/65536) with `rescale` (arXiv:2311.03099, eq. 2, the weight folded
    in, in float64); mergekit's dialect rescales by ‖δ‖ ÷ ‖mδ‖ instead."""
    return tuple(dare_term(view, source) for source in view.active())


def dare_term(view: View, source: SourceView) -> Term:
    """One source's."""
    weight, level = source.values["weight"], drop_level(source.values["drop"])
    if not level:
        return Term(source.name, weight, weight)
    mask = Drop(level, source.stream)
    factor = weight
    if view.options["rescale"] and view.mergekit:
        factor = weight * norm_ratio(view, source, mask)
    elif view.options["rescale"]:
        factor = weight / keep_rate(level)
    return Term(source.name, factor, weight, mask)
