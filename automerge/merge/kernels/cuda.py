"""The kernel for CUDA, in Triton: one launch for many tensors, one pass over memory, the reference's bytes.

Host side: jobs are taken in batches; a batch's jobs of one kind (cuda_kind.py) are one launch, which the device works
on while the next batch's tables are made. Nothing waits until all are launched. Triton is optional and imported at the
first call; its interpreter (TRITON_INTERPRET=1 before that) runs the same code on CPU tensors. Where a value is NaN,
its bits, and so the checksum, may differ from the reference's; the flag does not.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.kernels.cuda_kind import RESULT_COLUMNS, Kind
from automerge.merge.kernels.cuda_layout import Launch, Layouts, send
from automerge.merge.kernels.cuda_scalars import scalars
from automerge.merge.kernels.job import Job
from automerge.merge.needs_triton import needs_triton

PAIRS = 2048  # of elements a program, at most
WARPS = 8
BATCH = 64  # jobs
SLOTS = 32  # places a job's sums are gathered in, so that programs seldom meet at one

_layouts = Layouts()


def run(jobs: Sequence[Job], *, pairs: int = PAIRS) -> list[bool]:
    """See kernels.job.Kernel. A program takes at most `pairs` pairs of elements, a power of two of 16 or more.

    Raises MergeError without triton, or where the jobs are not all on one device that it can run on.
    """
    if not jobs:
        return []
    device = _device_of(jobs)
    results = torch.zeros((len(jobs), SLOTS, RESULT_COLUMNS), dtype=torch.int64, device=device)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            for launch in _layouts.of(batch, pairs, device):
                _start(launch, batch, results[start : start + BATCH], device)
    finite = []
    for job, (a, b, not_finite) in zip(jobs, results.sum(1).tolist(), strict=True):  # int64 sums wrap around
        job.total.add_sums(a, b)
        finite.append(not_finite == 0)
    return finite


def _start(launch: Launch, jobs: Sequence[Job], results: Tensor, device: torch.device) -> None:
    rows = send(scalars(jobs, launch.kind, launch.rows), device)
    options = constants(launch.kind, launch.read, launch.pairs, hardware=_packs(device))
    grid = (launch.owners.numel(),)
    _kernel()[grid](launch.owners, launch.segments, rows, results, **options, num_warps=WARPS, enable_fp_fusion=False)


def constants(kind: Kind, read: int, pairs: int, *, hardware: bool) -> dict[str, Any]:
    """The compile-time arguments of the device code."""
    return {
        "BASE_CODE": kind.base,
        "OUT_CODE": kind.out,
        "TERMS": kind.terms,
        "COUNT": len(kind.terms),
        "DELTA": kind.delta,
        "ELECT": kind.elect,
        "DIVIDE": kind.divide,
        "BASE_PART": kind.base_part,
        "TOTAL_SCALED": kind.scaled,
        "READ": read,
        "HARDWARE": hardware,
        "PAIRS": pairs,
        "SLOTS": SLOTS,
    }


def _kernel() -> Any:
    with needs_triton():
        from automerge.merge.kernels.cuda_device import merge_pairs
    return merge_pairs


def _interpreted() -> bool:
    return not hasattr(_kernel(), "cache_key")  # what compiles has one


@cache
def _packs(device: torch.device) -> bool:
    """Whether the device rounds two fp32 numbers to 16 bits in one instruction."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _device_of(jobs: Sequence[Job]) -> torch.device:
    devices = {tensor.device for job in jobs for tensor in (job.base, job.out, *(o.values for o in job.operands))}
    wanted = "cpu" if _interpreted() else "cuda"
    if len(devices) != 1 or {device.type for device in devices} != {wanted}:
        found = ", ".join(sorted(str(device) for device in devices))
        raise MergeError(f"expected tensors on one {wanted} device, got {found}", where=jobs[0].name)
    return devices.pop()
