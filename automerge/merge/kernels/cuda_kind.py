"""What device code is compiled for: everything about a job but its addresses, sizes and scalars.

Jobs of one kind are one launch. It also holds the numbers that the tables (made on the host) and the device code that
reads them share. It knows no triton.
"""

from dataclasses import dataclass

import torch

from automerge.errors import MergeError
from automerge.merge.kernels.buffers import check_operands
from automerge.merge.kernels.job import Job
from automerge.merge.plan import Band, Drop, Mask, Ranked

FP32, BF16, FP16 = range(3)
CODES = {torch.float32: FP32, torch.bfloat16: BF16, torch.float16: FP16}

KEEP, DROP, BAND, RANKED = range(4)
ABSENT, UNIT, SCALED = range(3)  # b · θ where b is 0, 1, anything else
FULL, PARTIAL, NARROW = range(3)  # how memory is read: cuda_device.py

SEGMENT_COLUMNS = 7  # int64: base, out, first flat element, elements, first program, row of scalars, job
TERM_COLUMNS = 4  # int64: values, ranks, levels, factors
ROW_SCALARS = 3  # 32 bits: divisor, b, λ
TERM_SCALARS = 7  # 32 bits: factor, weight, low, high, drop level, the two keys
RESULT_COLUMNS = 3  # int64: A, B, whether a value is not finite


@dataclass(frozen=True)
class Kind:
    """`terms`: (dtype code of the operand, whether it is a delta, kind of mask). `divide`: by the weights with
    `elect`, else by the plan's divisor. `base_part`: what b asks for; `scaled`: whether λ does anything."""

    base: int
    out: int
    terms: tuple[tuple[int, bool, int], ...]
    delta: bool
    elect: bool
    divide: bool
    base_part: int
    scaled: bool

    def pairs(self, most: int) -> int:
        """The pairs of elements a program takes, of at most `most`: a vote keeps every contribution in registers."""
        return most // 2 if self.elect else most


def kind_of(job: Job) -> Kind:
    """Raises MergeError for a dtype that no kernel reads, and unless there is an operand a term."""
    check_operands(job)
    plan = job.plan
    pairs = zip(plan.terms, job.operands, strict=True)
    return Kind(
        base=_code(job, job.base),
        out=_code(job, job.out),
        terms=tuple((_code(job, operand.values), operand.is_delta, _mask(term.mask)) for term, operand in pairs),
        delta=plan.operand == "delta",
        elect=plan.elect,
        divide=plan.divide if plan.elect else plan.divisor != 1.0,
        base_part=ABSENT if plan.base == 0.0 else UNIT if plan.base == 1.0 else SCALED,
        scaled=plan.factor != 1.0,
    )


def _code(job: Job, values: torch.Tensor) -> int:
    code = CODES.get(values.dtype)
    if code is None:
        raise MergeError(f"expected float32, bfloat16 or float16, got {values.dtype}", where=job.name)
    return code


def _mask(mask: Mask | None) -> int:
    return {type(None): KEEP, Drop: DROP, Band: BAND, Ranked: RANKED}[type(mask)]
