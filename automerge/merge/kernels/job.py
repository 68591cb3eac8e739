"""One tensor's merge with everything a kernel reads and writes. It knows no method and no file.

Buffers are flat and contiguous. A job covers a whole tensor, or a slice of one (a tensor-parallel rank's shard): its
segments say which of the tensor's flat elements its buffers hold, for masks and checksum depend on those alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.checksum import TensorSum
from automerge.merge.plan import Plan, Ranked
from automerge.merge.values import Operand


@dataclass(frozen=True)
class Segment:
    """`length` neighbours: element `local` … of the buffers are the flat elements `flat` … of the whole tensor."""

    local: int
    flat: int
    length: int


@dataclass(frozen=True)
class Job:
    """`base` and each operand's values are float32, bfloat16 or float16 [n]; `out` [n] is written, in its own dtype.

    One operand a term, in the terms' order. A Ranked mask's `ranks` are [n] too. `total` receives the checksum of
    what was written.
    """

    name: str
    plan: Plan
    base: Tensor
    operands: tuple[Operand, ...]
    out: Tensor
    segments: tuple[Segment, ...]
    total: TensorSum


class Kernel(Protocol):
    """Runs jobs: writes each `out`, adds to each `total`."""

    def __call__(self, jobs: Sequence[Job]) -> list[bool]:
        """For each job, whether every value written is finite."""


def whole(n: int) -> tuple[Segment, ...]:
    """The segments of a job that covers a tensor of n elements."""
    return (Segment(0, 0, n),)


def shard(job: Job, shape: tuple[int, ...], dim: int, start: int, stop: int, total: TensorSum) -> Job:
    """The part of a whole tensor's job that computes [start, stop) along `dim`, with buffers of its own.

    The shards' `total`s, merged, are the tensor's. Raises MergeError where 16-bit elements are cut inside a pair
    (a slice must begin and end at even flat elements, or at the tensor's end).
    """

    def cut(flat: Tensor) -> Tensor:
        return flat.view(shape).narrow(dim, start, stop - start).contiguous().view(-1)

    terms = tuple(
        replace(term, mask=replace(term.mask, ranks=cut(term.mask.ranks))) if isinstance(term.mask, Ranked) else term
        for term in job.plan.terms
    )
    inner = torch.Size(shape[dim + 1 :]).numel()
    outer = torch.Size(shape[:dim]).numel()
    run, stride = (stop - start) * inner, shape[dim] * inner
    segments = tuple(Segment(row * run, row * stride + start * inner, run) for row in range(outer) if run)
    elements = torch.Size(shape).numel()
    if job.out.element_size() == 2:
        for segment in segments:
            end = segment.flat + segment.length
            if segment.flat % 2 or (end % 2 and end != elements):
                hint = "Gather the tensor, or slice it where rows are even."
                raise MergeError(f"dimension {dim} cannot be cut at {start} and {stop}", where=job.name, hint=hint)
    return Job(
        name=job.name,
        plan=replace(job.plan, terms=terms),
        base=cut(job.base),
        operands=tuple(replace(operand, values=cut(operand.values)) for operand in job.operands),
        out=torch.empty(run * outer, dtype=job.out.dtype, device=job.out.device),
        segments=segments,
        total=total,
    )
