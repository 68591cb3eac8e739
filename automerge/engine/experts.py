"""Experts' tensors in a module: checkpoints name them one by one, transformers from 5 on holds them stacked.

CHECKPOINT  …block_sparse_moe.experts.3.w1.weight [I, H]   …mlp.experts.3.gate_proj.weight [I, H]
MODULE      …mlp.experts.gate_up_proj [E, 2·I, H], gate first   …mlp.experts.down_proj [E, H, I]
"""

import re
from collections.abc import Mapping

from torch import Tensor

_EXPERT = re.compile(
    r"(?P<layer>.*\.)(?:block_sparse_moe|mlp)\.experts\.(?P<number>\d+)\."
    r"(?P<part>w[123]|gate_proj|up_proj|down_proj)\.weight"
)
_PART = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def storage_of(name: str, held: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """(which of a module's tensors has a checkpoint's, where in it: itself or a view); None: none has it."""
    if (plain := held.get(name.replace(".block_sparse_moe.gate.", ".mlp.gate."))) is not None:
        return plain, plain
    found = _EXPERT.fullmatch(name)
    if found is None:
        return None
    part = _PART.get(found["part"], found["part"])
    stacked = held.get(f"{found['layer']}mlp.experts.{'down_proj' if part == 'down_proj' else 'gate_up_proj'}")
    number = int(found["number"])
    if stacked is None or number >= len(stacked):
        return None
    if part == "down_proj":
        return stacked, stacked[number]
    half = stacked.shape[1] // 2
    return stacked, stacked[number, :half] if part == "gate_proj" else stacked[number, half:]
