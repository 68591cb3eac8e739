"""A low-rank delta, formed for a run of elements or a whole tensor, never written out. It knows no files.

    δ[y, x] = s · Σ_k L[k, y] R[k, x]          L [r, n], R [r, m], δ [n, m], all fp32; s rounded to fp32 once
k ascending from +0.0, one rounding a product and one a sum, then one for s: the same bytes everywhere, as no BLAS
gives. Paper: arXiv:2106.09685 (E. Hu et al., 2021), eq. 3, with L = Bᵀ and R = A, or the other way round where the
base keeps the weight transposed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from automerge.merge.kernels.cpu import share_out
from automerge.merge.sources.source import CPU

Factors = tuple[Tensor, Tensor]
ROWS = 64  # rows a task of `whole`: many more tasks than threads, so that none waits long for the last


@dataclass(frozen=True)
class LowRank:
    """`read` gives L and R, contiguous fp32. `shape` is δ's, [n, m]."""

    read: Callable[[], Factors]
    scale: float
    shape: tuple[int, int]

    def delta(self, start: int, stop: int, base: Tensor) -> Tensor:
        """fp32 [stop − start] of δ's flat elements, where `base` is: plain torch operations, the reference."""
        device = base.device
        left, right = (factor.to(device) for factor in self.read())
        columns = self.shape[1]
        first, last = start // columns, -(-stop // columns)
        result = torch.zeros(last - first, columns, device=device)
        product = torch.empty_like(result)
        for ahead, row in zip(left[:, first:last], right, strict=True):
            torch.mul(ahead.unsqueeze(1), row.unsqueeze(0), out=product)
            result.add_(product)
        return result.mul_(self._scale).view(-1)[start - first * columns : stop - first * columns]

    def whole(self, device: torch.device = CPU) -> Tensor:
        """fp32 [n, m]: the same bytes as `delta`, by a compiled kernel; on the CPU, on torch's number of threads.

        Raises MergeError for a GPU where triton is missing.
        """
        # numba and triton take a while to import, and only merging needs them
        if device.type == "cuda":
            from automerge.merge.sources.lowrank_cuda import fill

            left, right = (factor.to(device, non_blocking=True) for factor in self.read())
            return fill(left, right, self._scale)
        return self._on_cpu()

    def _on_cpu(self) -> Tensor:
        from automerge.merge.kernels.cpu_lowrank_loop import fill_rows

        left, right = (factor.numpy() for factor in self.read())
        result = torch.empty(self.shape)
        out, scale = result.numpy(), np.float32(self._scale)

        def fill(first: int) -> None:
            fill_rows(left, right, scale, out, first, min(first + ROWS, self.shape[0]))

        share_out([partial(fill, first) for first in range(0, self.shape[0], ROWS)], None)
        return result

    @property
    def _scale(self) -> float:
        return float(np.float32(self.scale))
