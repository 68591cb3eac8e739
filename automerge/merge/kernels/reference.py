"""The reference kernel: plain torch operations, one after another, on any device. Every other kernel must equal it.

Elements are independent of each other, so the size of a run cannot be seen in the result.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.merge.checksum import TensorSum
from automerge.merge.kernels.job import Job, Segment
from automerge.merge.plan import Band, Drop, Elementwise, Plan, Ranked, Term
from automerge.merge.steps import add_to_base, combine, divide_, fp32, total
from automerge.merge.values import Operand

# Elements a run: its fp32 buffers stay in the cache. From 2^15 elements on torch would split every operation among
# threads, and their barriers made merges six times slower where another process wanted a core. Even, as pairs are.
RUN = (1 << 15) - 2


def run(jobs: Sequence[Job], *, length: int = RUN) -> list[bool]:
    """See kernels.job.Kernel. `length` is even."""
    return [_run_job(job, length) for job in jobs]


def _run_job(job: Job, length: int) -> bool:
    finite = True
    for segment in job.segments:
        for done in range(0, segment.length, length):
            part = Segment(segment.local + done, segment.flat + done, min(length, segment.length - done))
            merged = _merge(job, part)
            finite &= is_finite(merged, job.out.dtype)
            written = job.out[part.local : part.local + part.length]
            written.copy_(merged)
            job.total.add(written, part.flat)
    return finite


def run_elementwise(work: Elementwise, out: Tensor, total: TensorSum) -> bool:
    """Fills `out`, a whole tensor, flat, with what `work` computes; adds to `total`. Whether all of it is finite."""
    finite = True
    for start in range(0, out.numel(), RUN):
        stop = min(start + RUN, out.numel())
        merged = work(start, stop)
        finite &= is_finite(merged, out.dtype)
        out[start:stop] = merged
        total.add(out[start:stop], start)
    return finite


def is_finite(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether every fp32 value is finite in the dtype: rounding keeps order, so the extremes tell of every element."""
    if not values.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(values)).to(dtype)).all())


def _merge(job: Job, part: Segment) -> Tensor:
    plan = job.plan
    base = _cut(job.base, part)
    contributions = [
        _contribution(plan, term, _operand(plan, operand, base, part), part)
        for term, operand in zip(plan.terms, job.operands, strict=True)
    ]
    if plan.elect:
        merged = combine(contributions, [term.weight for term in plan.terms], base, plan.divide)
    else:
        merged = total(contributions, base)
        if plan.divisor != 1.0:
            divide_(merged, plan.divisor)
    return add_to_base(base, merged, plan.base, plan.factor)


def _cut(flat: Tensor, part: Segment) -> Tensor:
    return flat[part.local : part.local + part.length].to(torch.float32)


def _operand(plan: Plan, operand: Operand, base: Tensor, part: Segment) -> Tensor:
    values = _cut(operand.values, part)
    if plan.operand == "delta":
        return values if operand.is_delta else values - base
    return values + base if operand.is_delta else values


def _contribution(plan: Plan, term: Term, operand: Tensor, part: Segment) -> Tensor:
    mask = term.mask
    if isinstance(mask, Ranked):
        ranks = mask.ranks[part.local : part.local + part.length].to(torch.int64)
        lanes = mask.stream.lanes(part.flat, part.length, operand.device).to(torch.int32) + (1 << 15)
        return (operand * mask.factors[ranks]).masked_fill_(lanes < mask.levels[ranks], 0.0)
    contribution = operand * fp32(term.factor)
    if isinstance(mask, Drop):
        contribution.masked_fill_(mask.stream.dropped(mask.level, part.flat, part.length, operand.device), 0.0)
    elif isinstance(mask, Band):
        size = operand.abs()
        contribution.masked_fill_((size < mask.low) | (size > mask.high), 0.0)
    return contribution
