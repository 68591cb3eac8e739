"""Linear: the weighted average of the models. Paper: Model Soups, arXiv:2203.05482 (M. Wortsman et al., 2022).

    merged = Σ w_i x_i ÷ Σ w_i      (the division only with `normalize`)
The base is not one of the x_i. A LoRA adapter's x is θ + δ.
"""

import torch
from torch import Tensor

from automerge.merge.piece import Piece, fp32
from automerge.merge.registry import WEIGHT, Method, register
from automerge.merge.steps import scale, total


def merge(piece: Piece) -> Tensor:
    """fp32 [n]. The recipe's check has made sure that Σ w_i is not zero."""
    used = [source for source in piece.sources if source.values["weight"] != 0.0]
    result = total([scale(source.read_weights(), source.values["weight"]) for source in used], piece.base)
    if piece.options["normalize"]:
        # a tensor, because CUDA multiplies by the reciprocal of a host scalar
        divisor = fp32(sum(source.values["weight"] for source in piece.sources))
        result.div_(torch.full((1,), divisor, device=result.device))
    return result


register(
    Method(
        name="linear",
        about="weighted average of the sources",
        paper="arXiv:2203.05482",
        parameters=(WEIGHT,),
        options={"normalize": True},
        merge=merge,
    )
)
