"""Task arithmetic: the weighted sum of the task vectors. Paper: arXiv:2212.04089 (G. Ilharco et al., 2023).

    merged = θ + λ Σ w_i δ_i
Nothing is dropped, trimmed or normalized.
"""

from torch import Tensor

from automerge.merge.piece import Piece
from automerge.merge.registry import LAMBDA, WEIGHT, Method, register
from automerge.merge.steps import add_to_base, scale, total


def merge(piece: Piece) -> Tensor:
    """fp32 [n]."""
    contributions = []
    for source in piece.sources:
        weight = source.values["weight"]
        delta = source.read_delta() if weight != 0.0 else None
        if delta is not None:
            contributions.append(scale(delta, weight))
    return add_to_base(piece.base, total(contributions, piece.base), piece.values["lambda"])


register(
    Method(
        name="task_arithmetic",
        about="base plus weighted task vectors",
        paper="arXiv:2212.04089",
        parameters=(WEIGHT, LAMBDA),
        merge=merge,
    )
)
