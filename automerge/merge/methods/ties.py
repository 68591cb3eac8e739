"""TIES: trim, elect a sign, average those that agree. Paper: arXiv:2306.01708 (P. Yadav et al., 2023), algorithm 1.

    δ̂_i   = δ_i where |δ_i| is among the int(density_i · n) largest of its tensor, else 0 (equal ones stay together)
    sign   = + where Σ w_i δ̂_i ≥ 0, else −
    merged = θ + λ Σ_agree w_i δ̂_i ÷ Σ_agree w_i      (the division only with `normalize`)
Signs are elected on weighted deltas, so a negative weight flips a vote (PEFT elects before it weights).
"""

from torch import Tensor

from automerge.merge.piece import Piece
from automerge.merge.registry import DENSITY, LAMBDA, WEIGHT, Method, register
from automerge.merge.steps import add_to_base, combine, elect, scale, trim


def merge(piece: Piece) -> Tensor:
    """fp32 [n]."""
    contributions, weights = [], []
    for source in piece.sources:
        weight = source.values["weight"]
        delta = source.read_delta() if weight != 0.0 else None
        if delta is None:
            continue
        contributions.append(trim(scale(delta, weight), delta, source.threshold))
        weights.append(weight)
    positive = elect(contributions, piece.base)
    merged = combine(contributions, weights, positive, piece.options["normalize"])
    return add_to_base(piece.base, merged, piece.values["lambda"])


register(
    Method(
        name="ties",
        about="task vectors trimmed to their largest elements, averaged where their signs agree",
        paper="arXiv:2306.01708",
        parameters=(WEIGHT, DENSITY, LAMBDA),
        options={"normalize": True},
        merge=merge,
        thresholds="density",
    )
)
