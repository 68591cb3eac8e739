"""What a kernel that reads raw memory refuses, before it reads any. It knows no kernel."""

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.kernels.job import Job
from automerge.merge.plan import Ranked, Term
from automerge.merge.values import Operand

NUMBERS = (torch.float32, torch.bfloat16, torch.float16)


def check_buffers(job: Job, device: str) -> None:
    """Raises MergeError unless there is an operand a term, every buffer is contiguous, on the kind of device ("cpu",
    "cuda"), of a dtype that kernels read and as long as the base, and no segment leaves them."""
    plan, n = job.plan, job.base.numel()
    check_operands(job)
    _check(job, device, "base", job.base, n, NUMBERS)
    _check(job, device, "out", job.out, n, NUMBERS)
    for term, operand in zip(plan.terms, job.operands, strict=True):
        _check_term(job, device, term, operand)
    for segment in job.segments:
        if min(segment.local, segment.flat, segment.length) < 0 or segment.local + segment.length > n:
            raise MergeError(f"{segment} lies outside buffers of {n} elements", where=job.name)


def check_operands(job: Job) -> None:
    """Raises MergeError unless there is an operand a term."""
    terms, operands = len(job.plan.terms), len(job.operands)
    if terms != operands:
        raise MergeError(f"the plan has {terms} terms, got {operands} operands", where=job.name)


def _check_term(job: Job, device: str, term: Term, operand: Operand) -> None:
    n, source = job.base.numel(), term.source
    numbers = NUMBERS[:1] if operand.is_delta else NUMBERS
    _check(job, device, f"the values of {source}", operand.values, n, numbers)
    if isinstance(term.mask, Ranked):
        mask, count = term.mask, term.mask.levels.numel()
        _check(job, device, f"the ranks of {source}", mask.ranks, n, (torch.uint16,))
        _check(job, device, f"the levels of {source}", mask.levels, count, (torch.int32,))
        _check(job, device, f"the factors of {source}", mask.factors, count, (torch.float32,))


def _check(job: Job, device: str, what: str, buffer: Tensor, n: int, dtypes: tuple[torch.dtype, ...]) -> None:
    there = buffer.is_cpu if device == "cpu" else buffer.device.type == device  # the short way is seven times as fast
    if there and buffer.is_contiguous() and buffer.numel() == n and buffer.dtype in dtypes:
        return
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    kinds = ", ".join(names[:-1]) + f" or {names[-1]}" if names[1:] else names[0]
    got = f"{buffer.numel()} of {str(buffer.dtype).removeprefix('torch.')} on {buffer.device}"
    got += "" if buffer.is_contiguous() else ", not contiguous"
    message = f"{what}: expected {n} contiguous elements of {kinds} on {device}, got {got}"
    raise MergeError(message, where=job.name)
