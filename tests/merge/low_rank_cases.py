"""A low-rank product in Triton against the CPU's, on whatever device: the interpreter's or a GPU."""

import torch

from automerge.merge.sources.lowrank import LowRank
from automerge.merge.sources.lowrank_cuda import fill


def check_low_rank(rank: int, n: int, m: int, device: str) -> None:
    """Equal bytes, of ordinary values, zeros of both signs and subnormals."""
    random = torch.Generator().manual_seed(rank * n * m)
    left, right = torch.randn(rank, n, generator=random), torch.randn(rank, m, generator=random)
    left[0, 0], right[0, -1] = -0.0, 1e-41
    right[-1, 0] = -1e-39
    low_rank = LowRank(lambda: (left, right), 0.3, (n, m))
    made = fill(left.to(device), right.to(device), low_rank._scale).cpu()
    assert torch.equal(made.view(torch.int32), low_rank.whole().view(torch.int32))
