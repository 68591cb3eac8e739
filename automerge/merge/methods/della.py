"""DELLA: drop delta elements at random, small ones more often, then sign election. Paper: arXiv:2406.11617
(P. T. Deep et al., 2024); the drop is its MAGPRUNE.

An element of rank r by |δ| in its row of N (the last dimension; r from 0, the smallest) is dropped with probability
    p_r    = p + h − 2h · r/(N − 1),   h = ε/2
and kept as δ̂_i = δ_i ÷ (1 − p_r) (the division only with `rescale`), so that p_r falls from p + ε/2 to p − ε/2. Then
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
p is `drop`, in steps of 1/65536; at 0 nothing is dropped. h is at most p and 1 − p, so that no p_r leaves [0, 1] and
their mean is p. Equal magnitudes rank by their place. In a row of one element, p_r = p.

`dialect: mergekit` takes h = ε (its density is 1 − p), refuses p ± ε outside (0, 1), and rescales each tensor to its
norm before the drop, ‖δ‖ ÷ ‖mδ‖, in place of 1 ÷ (1 − p_r). Of a tensor of three or more dimensions mergekit ranks
along the second; here it is the last.
"""

from typing import Any

import numpy as np
import torch

from automerge.errors import MergeError
from automerge.merge.masks import LANES
from automerge.merge.measure.orders import row_ranks
from automerge.merge.methods.parts import (
    NORMALIZE_ON,
    RESCALE,
    RESCALE_NORM,
    ByName,
    BySource,
    Options,
    check_rescale_norm,
    dare_term,
    norm_ratio,
)
from automerge.merge.plan import Plan, Ranked, Term
from automerge.merge.registry import DIALECT, DROP, LAMBDA, WEIGHT, Method, Parameter, register
from automerge.merge.view import SourceView, View

Array = np.ndarray[Any, np.dtype[np.float64]]

EPSILON = Parameter("epsilon", "source", 0.15, 0.0, 1.0, "how far drop rates spread by magnitude", (0.0, 0.3))


def plan(view: View) -> Plan:
    """Thinned deltas, with election."""
    divide = bool(view.options["normalize"])
    return Plan("delta", magprune_terms(view), elect=True, divide=divide, factor=view.values["lambda"])


def check(sources: BySource, merge: ByName, options: Options) -> None:
    """Raises MergeError for what mergekit's dialect refuses, and for a norm in the papers'."""
    check_rescale_norm(sources, merge, options)
    for name, values in sources.items():
        p, epsilon = values["drop"], values["epsilon"]
        if options["dialect"] == "mergekit" and p > 0.0 and not 0.0 < p - epsilon <= p + epsilon < 1.0:
            message = f"drop ± epsilon of {name}: expected within (0, 1), got {p - epsilon:g} to {p + epsilon:g}"
            raise MergeError(message, hint="mergekit's dialect refuses this; the papers' makes epsilon smaller.")


def magprune_terms(view: View) -> tuple[Term, ...]:
    """Deltas thinned by rank; where every rank has the same drop rate they are DARE's."""
    return tuple(_term(view, source) for source in view.active())


def half_spread(view: View, source: SourceView) -> float:
    """h, the distance of the largest drop rate from p."""
    p, epsilon = source.values["drop"], source.values["epsilon"]
    return epsilon if view.mergekit else min(epsilon / 2, p, 1.0 - p)


def _term(view: View, source: SourceView) -> Term:
    weight, p, half = source.values["weight"], source.values["drop"], half_spread(view, source)
    columns = view.shape[-1] if view.shape else 1
    if p == 0.0 or half == 0.0 or columns < 2 or not view.n:
        return dare_term(view, source)
    rates = (p + half) - 2.0 * half * (np.arange(columns) / (columns - 1))
    levels = np.clip(np.rint(rates * LANES), 0, LANES - 1)
    by_paper = bool(view.options["rescale"]) and not view.mergekit
    factors = weight / (1.0 - levels / LANES) if by_paper else np.full(columns, weight)
    mask = _mask(view, source, columns, levels, factors)
    if view.options["rescale"] and view.mergekit:
        mask = _mask(view, source, columns, levels, factors * norm_ratio(view, source, mask))
    return Term(source.name, weight, weight, mask)


def _mask(view: View, source: SourceView, columns: int, levels: Array, factors: Array) -> Ranked:
    device = view.base.device
    return Ranked(
        ranks=row_ranks(source.delta, columns, view.kept),
        levels=torch.from_numpy(levels.astype(np.int32)).to(device),
        factors=torch.from_numpy(factors.astype(np.float32)).to(device),
        stream=source.stream,
    )


register(
    Method(
        name="della",
        about="task vectors thinned at random, small elements more often, averaged where their signs agree",
        paper="arXiv:2406.11617",
        parameters=(WEIGHT, DROP, EPSILON, LAMBDA),
        options=(DIALECT, NORMALIZE_ON, RESCALE, RESCALE_NORM),
        plan=plan,
        check=check,
        random=True,
    )
)
