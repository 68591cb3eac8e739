"""The kernels that run a Plan: torch (the reference, any device), numba (CPU), Triton (CUDA). All give equal bytes."""

import torch

from automerge.merge.kernels.job import Kernel


def choose(device: torch.device) -> Kernel:
    """The fast kernel for a device; what it compiles with is imported now, and not before a merge needs it."""
    if device.type == "cuda":
        from automerge.merge.kernels import cuda

        return cuda.run
    from automerge.merge.kernels import cpu

    return cpu.run
