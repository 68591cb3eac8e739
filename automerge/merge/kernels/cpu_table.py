"""Jobs as arrays of numbers, which is all that compiled code sees: addresses, factors, keys, and chunks of elements.

A chunk lies in one job and between two multiples of CHUNK of the tensor's flat elements, so that it never straddles
one of masks.py's blocks, and the upper half of its pairs' numbers is one constant. It needs no numba.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from automerge.errors import MergeError
from automerge.merge.kernels.buffers import check_buffers
from automerge.merge.kernels.job import Job
from automerge.merge.masks import BLOCK
from automerge.merge.plan import Band, Drop, Mask, Ranked
from automerge.merge.steps import fp32

CHUNK = 1 << 14  # elements; 2^17 is a multiple of it
MOST_FUSED = 8  # terms

F32, BF16, F16 = 0, 1, 2  # number formats, as in cpu_words
FORMATS = {torch.float32: F32, torch.bfloat16: BF16, torch.float16: F16}

KEEP, DROP, FLOOR, BAND, RANKED = 0, 1, 2, 3, 4  # masks: none, Drop, Band without and with an upper bound, Ranked
SUM, DIVIDED, ELECT, AGREED = 0, 1, 2, 3  # Σ, Σ ÷ divisor, elected Σ, elected Σ ÷ Σ of the weights that agree

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Shape:
    """What the fast path is specialised to. All operands are 16-bit weights in the base's format, or fp32 deltas."""

    terms: int
    kind: int  # base's and out's format, BF16 or F16
    deltas: bool  # the operands are given as fp32 deltas
    weights: bool  # they enter as weights
    mask: int  # KEEP, DROP, FLOOR or BAND
    finish: int
    base: bool  # b is 1, else 0


class Tables(NamedTuple):
    """The arrays of one call. Terms of a job are neighbours, and so are the keys of its terms in one block."""

    chunks: Array  # int64 [chunks, 4]: job, first element of the buffers, of the tensor, number of elements
    # int64 [jobs, 8]: base, out (addresses), their formats, first term, terms, first key, finish + 4 · weights
    jobs: Array
    scalars: Array  # fp32 [jobs, 3]: divisor, b, λ
    based: Array  # bool [jobs]: whether b · θ takes part
    address: Array  # int64 [terms]: of the operand's values
    kind: Array  # int64 [terms]: their format
    delta: Array  # bool [terms]: whether they are deltas
    mask: Array  # int64 [terms]
    factor: Array  # fp32 [terms]
    weight: Array  # fp32 [terms]
    low: Array  # fp32 [terms]
    high: Array  # fp32 [terms]
    level: Array  # uint32 [terms]: T · 65536
    ranked: Array  # int64 [terms, 3]: addresses of ranks, levels, factors
    key: Array  # uint32 [keys]: k0 ^ (k0 >> 16)
    middle: Array  # uint32 [keys]: k1 ^ (k1 >> 15)


def tables(jobs: Sequence[Job]) -> tuple[Tables, list[tuple[Shape | None, int, int]]]:
    """The arrays, and runs of chunks (shape, first, end); shape None is the general path's.

    Raises MergeError for a job that cannot run, see buffers.check_buffers, and where a pair of 16-bit elements is cut.
    """
    rows: dict[Shape | None, list[Array]] = {}
    table: dict[str, list[Any]] = {name: [] for name in Tables._fields if name != "chunks"}
    for number, job in enumerate(jobs):
        check_buffers(job, "cpu")
        shape = _shape(job)
        pieces = _pieces(number, job)
        _describe(job, table, pieces)
        if shape is None:
            rows.setdefault(None, []).append(pieces)
        else:  # pairs alone; a last element by itself is left to the general path
            odd = pieces[:, 3] & 1
            rows.setdefault(shape, []).append(
                pieces[pieces[:, 3] > 1] - np.array([0, 0, 0, 1]) * odd[pieces[:, 3] > 1, None]
            )
            if odd.any():
                last = pieces[odd == 1]
                ahead = last[:, 3:] - 1
                rows.setdefault(None, []).append(np.hstack([last[:, :1], last[:, 1:3] + ahead, np.ones_like(ahead)]))
    runs, chunks, first = [], [], 0
    for shape, parts in rows.items():
        part = np.concatenate(parts)
        runs.append((shape, first, first + len(part)))
        chunks.append(part)
        first += len(part)
    arrays = {name: np.array(table[name], dtype=_DTYPES[name]) for name in table}
    arrays["chunks"] = np.concatenate(chunks) if chunks else np.empty((0, 4), np.int64)
    arrays["ranked"] = arrays["ranked"].reshape(-1, 3)
    return Tables(**arrays), runs


_DTYPES: dict[str, Any] = dict.fromkeys(("jobs", "address", "kind", "mask", "ranked"), np.int64)
_DTYPES |= dict.fromkeys(("scalars", "factor", "weight", "low", "high"), np.float32)
_DTYPES |= {"based": np.bool_, "delta": np.bool_, "level": np.uint32, "key": np.uint32, "middle": np.uint32}


def _describe(job: Job, table: dict[str, list[Any]], pieces: Array) -> None:
    plan = job.plan
    finish = (AGREED if plan.divide else ELECT) if plan.elect else (DIVIDED if fp32(plan.divisor) != 1.0 else SUM)
    formats = [FORMATS[job.base.dtype], FORMATS[job.out.dtype]]
    places = [job.base.data_ptr(), job.out.data_ptr(), *formats, len(table["address"]), len(plan.terms)]
    table["jobs"].append([*places, len(table["key"]), finish + 4 * (plan.operand == "weights")])
    table["scalars"].append([fp32(plan.divisor), fp32(plan.base), fp32(plan.factor)])
    table["based"].append(plan.base != 0.0)
    for term, operand in zip(plan.terms, job.operands, strict=True):
        mask = term.mask
        table["address"].append(operand.values.data_ptr())
        table["kind"].append(FORMATS[operand.values.dtype])
        table["delta"].append(operand.is_delta)
        table["mask"].append(_mask_kind(mask))
        table["factor"].append(fp32(term.factor))
        table["weight"].append(fp32(term.weight))
        table["low"].append(mask.low if isinstance(mask, Band) else 0.0)
        table["high"].append(mask.high if isinstance(mask, Band) else np.inf)
        table["level"].append(mask.level << 16 if isinstance(mask, Drop) else 0)
        ranked = (mask.ranks, mask.levels, mask.factors) if isinstance(mask, Ranked) else ()
        table["ranked"].append([part.data_ptr() for part in ranked] or [0, 0, 0])
    for block in range(int(pieces[:, 2].max(initial=-1)) // BLOCK + 1):
        for term in plan.terms:
            k0, k1 = term.mask.stream.keys(block) if isinstance(term.mask, Drop | Ranked) else (0, 0)
            table["key"].append(k0 ^ (k0 >> 16))
            table["middle"].append(k1 ^ (k1 >> 15))


def _mask_kind(mask: Mask | None) -> int:
    if isinstance(mask, Band):
        return FLOOR if mask.high == np.inf else BAND
    return {Drop: DROP, Ranked: RANKED, type(None): KEEP}[type(mask)]


def _shape(job: Job) -> Shape | None:
    """The fast path's shape of a job, or None."""
    plan = job.plan
    masks = {_mask_kind(term.mask) for term in plan.terms} - {KEEP}
    kinds = {(operand.values.dtype, operand.is_delta) for operand in job.operands}
    plain = kinds in ({(job.base.dtype, False)}, {(torch.float32, True)})
    if FLOOR in masks and BAND in masks:
        masks.discard(FLOOR)
    known = len(masks) <= 1 and RANKED not in masks and plan.base in (0.0, 1.0)
    even = job.out.element_size() == 2 and job.out.dtype == job.base.dtype
    if not (known and plain and even and 1 <= len(plan.terms) <= MOST_FUSED):
        return None
    finish = (AGREED if plan.divide else ELECT) if plan.elect else (DIVIDED if fp32(plan.divisor) != 1.0 else SUM)
    return Shape(
        terms=len(plan.terms),
        kind=FORMATS[job.base.dtype],
        deltas=job.operands[0].is_delta,
        weights=plan.operand == "weights",
        mask=masks.pop() if masks else KEEP,
        finish=finish,
        base=plan.base != 0.0,
    )


def _pieces(number: int, job: Job) -> Array:
    """int64 [chunks, 4], see Tables.chunks. Raises MergeError where a pair of 16-bit elements is cut."""
    segments = np.array([(s.local, s.flat, s.length) for s in job.segments if s.length], np.int64).reshape(-1, 3)
    local, flat, length = segments.T
    end = flat + length
    if job.out.element_size() == 2:
        elements = torch.Size(job.total.shape).numel()
        cut = (flat % 2 == 1) | ((end % 2 == 1) & (end != elements))
        if cut.any():
            at = int(np.argmax(cut))
            message = f"elements {flat[at]} to {end[at]} begin or end inside a pair of 16-bit elements"
            hint = "Cut the tensor at even elements."
            raise MergeError(message, where=job.name, hint=hint)
    before = flat // CHUNK
    counts = (end - 1) // CHUNK - before + 1 if len(flat) else np.empty(0, np.int64)
    segment = np.repeat(np.arange(len(flat)), counts)
    place = np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts) + before[segment]
    start = np.maximum(place * CHUNK, flat[segment])
    stop = np.minimum((place + 1) * CHUNK, end[segment])
    return np.stack([np.full_like(start, number), start - flat[segment] + local[segment], start, stop - start], axis=1)
