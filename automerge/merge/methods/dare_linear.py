"""DARE: drop delta elements at random, rescale the rest, add. Paper: arXiv:2311.03099 (L. Yu et al., 2024), eqs. 1–3.

    merged = θ + λ Σ w_i m_i δ_i ÷ (1 − p_i)      (the division only with `rescale`)
m_i is 0 with probability p_i, else 1 (masks.py). p_i is taken in steps of 1/65536.
"""

from torch import Tensor

from automerge.merge.masks import drop_level
from automerge.merge.piece import Piece
from automerge.merge.registry import DROP, LAMBDA, WEIGHT, Method, register
from automerge.merge.steps import add_to_base, coefficient, drop, scale, total


def merge(piece: Piece) -> Tensor:
    """fp32 [n]."""
    contributions = []
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
    return add_to_base(piece.base, total(contributions, piece.base), piece.values["lambda"])


register(
    Method(
        name="dare_linear",
        about="base plus weighted task vectors, randomly thinned and rescaled",
        paper="arXiv:2311.03099",
        parameters=(WEIGHT, DROP, LAMBDA),
        options={"rescale": True},
        merge=merge,
    )
)
