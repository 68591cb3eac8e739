"""A low-rank product on a GPU, in Triton: lowrank.py's order and roundings, so the same bytes. Import it late.

No product and sum are fused. Triton's interpreter (TRITON_INTERPRET=1) runs the same code on CPU tensors.
"""

import torch
from torch import Tensor

from automerge.merge.needs_triton import needs_triton

ROWS, COLUMNS = 16, 256  # of a program
WARPS = 4


def fill(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """fp32 [n, m] = scale · Σ_k left[k, y] right[k, x], where the factors [r, n] and [r, m] are. Raises MergeError
    without triton."""
    with needs_triton():
        import triton

        from automerge.merge.sources.lowrank_device import fill_tile
    (rank, n), m = left.shape, right.shape[1]
    out = torch.empty(n, m, device=left.device)
    grid = (triton.cdiv(m, COLUMNS), triton.cdiv(n, ROWS))
    shape = {"rank": rank, "n": n, "m": m}
    fill_tile[grid](
        left, right, out, scale, **shape, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=WARPS, enable_fp_fusion=False
    )
    return out
