"""DARE with TIES: random drop in place of the trim, then sign election. Papers: arXiv:2311.03099 and arXiv:2306.01708.

    δ̂_i   = m_i δ_i ÷ (1 − p_i)      (the division only with `rescale`)
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
The divisor sums the weights w_i, not the rescaled ones.
"""

from torch import Tensor

from automerge.merge.masks import drop_level
from automerge.merge.piece import Piece
from automerge.merge.registry import DROP, LAMBDA, WEIGHT, Method, register
from automerge.merge.steps import add_to_base, coefficient, combine, drop, elect, scale


def merge(piece: Piece) -> Tensor:
    """fp32 [n]."""
    contributions, weights = [], []
    for source in piece.sources:
        weight = source.values["weight"]
        delta = source.read_delta() if weight != 0.0 else None
        if delta is None:
            continue
        level = drop_level(source.values["drop"])
        contribution = scale(delta, coefficient(weight, level, piece.options["rescale"]))
        if level:
            drop(contribution, source.dropped(level, contribution))
        contributions.append(contribution)
        weights.append(weight)
    positive = elect(contributions, piece.base)
    merged = combine(contributions, weights, positive, piece.options["normalize"])
    return add_to_base(piece.base, merged, piece.values["lambda"])


register(
    Method(
        name="dare_ties",
        about="task vectors randomly thinned and rescaled, averaged where their signs agree",
        paper="arXiv:2311.03099, arXiv:2306.01708",
        parameters=(WEIGHT, DROP, LAMBDA),
        options={"normalize": True, "rescale": True},
        merge=merge,
    )
)
