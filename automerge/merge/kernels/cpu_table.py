"""Jobs as arrays of numbers, which is all that compiled code sees: addresses, factors, keys, and chunks of elements.

A chunk lies in one job and between two multiples of CHUNK of the tensor's flat elements, so that it never straddles
one of masks.py's blocks, and the upper half of its pairs' numbers is one constant. It needs no numba.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from automerge.merge.checksum import cuts_pair, pair_cut
from automerge.merge.kernels.buffers import check_buffers
from automerge.merge.kernels.job import Job
from automerge.merge.masks import BLOCK
from automerge.merge.plan import SMALLEST_DIVISOR, Band, Drop, Mask, Plan, Ranked
from automerge.merge.steps import fp32

CHUNK = 1 << 14  # elements; 2^17 is a multiple of it
MOST_FUSED = 8  # terms
# words in a vector of the fast path: as many as a register holds. llvmlite knows too, but vLLM cannot start beside it
LANES = 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 8
PAIRS = 256  # words in a block of the fast path: what is drawn for it stays in the first-level cache
LEAST_PLAIN = 2.0**-15  # a factor that takes no difference of 16-bit numbers to 0

F32, BF16, F16 = 0, 1, 2  # number formats
FORMATS = {torch.float32: F32, torch.bfloat16: BF16, torch.float16: F16}

KEEP, DROP, FLOOR, BAND, RANKED = 0, 1, 2, 3, 4  # masks: none, Drop, Band without and with an upper bound, Ranked
SUM, DIVIDED, ELECT, AGREED = 0, 1, 2, 3  # Σ, Σ ÷ divisor, elected Σ, elected Σ ÷ Σ of the weights that agree

Array = np.ndarray[Any, np.dtype[Any]]


class Shape(NamedTuple):
    """What the fast path is specialised to. All operands are 16-bit weights in the base's format, or fp32 deltas."""

    terms: int
    kind: int  # base's and out's format, BF16 or F16
    deltas: bool  # the operands are given as fp32 deltas
    weights: bool  # they enter as weights
    mask: int  # KEEP, DROP, FLOOR or BAND
    finish: int
    base: bool  # b is 1, else 0
    scaled: bool  # λ is not 1
    plain: bool  # deltas of 16-bit weights from the base, and factors from LEAST_PLAIN on: see _plain
    certain: bool  # AGREED, and every weight is above SMALLEST_DIVISOR, so that their sums are as well

    @property
    def number(self) -> int:
        """It as one number, since compiled code is specialised to numbers only."""
        return sum(int(field) << 4 * place for place, field in enumerate(self))

    @classmethod
    def of(cls, number: int) -> Self:
        """The shape of such a number."""
        kinds = cls.__annotations__.values()
        return cls(*(kind(number >> 4 * place & 15) for place, kind in enumerate(kinds)))


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
    for job in jobs:
        check_buffers(job, "cpu")
    segments = _segments(jobs)
    arrays, shapes = _described(jobs, segments)
    chunks, runs = _by_shape(_pieces(segments), shapes)
    return Tables(chunks=chunks, **arrays), runs


def _described(jobs: Sequence[Job], segments: Array) -> tuple[dict[str, Array], list[Shape | None]]:
    """All arrays but the chunks, and each job's shape. Made anew for every merge: rows of few lists, turned at once."""
    last = np.zeros(len(jobs), np.int64)  # masks.py's last block that a job touches
    np.maximum.at(last, segments[:, 0], (segments[:, 2] + segments[:, 3] - 1) // BLOCK)
    places: list[tuple[int, ...]] = []
    terms: list[tuple[int, ...]] = []
    factors: list[tuple[float, ...]] = []
    keys: list[tuple[int, int]] = []
    shapes: list[Shape | None] = []
    for job, blocks in zip(jobs, last.tolist(), strict=True):
        plan, base, out = job.plan, job.base, job.out
        formats, first, finish = (FORMATS[base.dtype], FORMATS[out.dtype]), len(terms), _finish(plan)
        weights = plan.operand == "weights"
        place = base.data_ptr(), out.data_ptr(), *formats, first, len(plan.terms), len(keys), finish + 4 * weights
        places.append(place)
        for term, operand in zip(plan.terms, job.operands, strict=True):
            mask, values = term.mask, operand.values
            kind, level, low, high, ranked = KEEP, 0, 0.0, np.inf, (0, 0, 0)
            if isinstance(mask, Drop):
                kind, level = DROP, mask.level << 16
            elif isinstance(mask, Band):
                kind, low, high = FLOOR if mask.high == np.inf else BAND, mask.low, mask.high
            elif isinstance(mask, Ranked):
                kind, ranked = RANKED, (mask.ranks.data_ptr(), mask.levels.data_ptr(), mask.factors.data_ptr())
            terms.append((values.data_ptr(), FORMATS[values.dtype], operand.is_delta, kind, level, *ranked))
            factors.append((term.factor, term.weight, low, high))
        for block in range(blocks + 1):
            keys.extend(mask_keys(term.mask, block) for term in plan.terms)
        shapes.append(_shape(plan, finish, formats, (row[1:4] for row in terms[first:])))
    plans = [job.plan for job in jobs]
    addresses, kinds, deltas, masks, levels, *ranks = _columns(terms, 8, np.int64)
    factor, weight, lows, highs = _columns(factors, 4, np.float32)
    key, middle = _columns(keys, 2, np.uint32)
    scalars = [(plan.divisor, plan.base, plan.factor) for plan in plans]
    arrays: dict[str, Array] = {
        "jobs": np.array(places, np.int64).reshape(-1, 8),
        "scalars": np.array(scalars, np.float32).reshape(-1, 3),
        "based": np.array([plan.base != 0.0 for plan in plans], np.bool_),
        "address": addresses,
        "kind": kinds,
        "delta": deltas.astype(np.bool_),
        "mask": masks,
        "factor": factor,
        "weight": weight,
        "low": lows,
        "high": highs,
        "level": levels.astype(np.uint32),
        "ranked": np.stack(ranks, axis=1),
        "key": key,
        "middle": middle,
    }
    return arrays, shapes


def mask_keys(mask: Mask | None, block: int) -> tuple[int, int]:
    """See Tables.key and Tables.middle; 0 for a mask that draws nothing."""
    if not isinstance(mask, (Drop, Ranked)):
        return 0, 0
    k0, k1 = mask.stream.keys(block)
    return k0 ^ (k0 >> 16), k1 ^ (k1 >> 15)


def _columns(rows: Sequence[Any], width: int, dtype: Any) -> list[Array]:
    """Each column by itself, contiguous."""
    return list(np.ascontiguousarray(np.array(rows, dtype).reshape(-1, width).T))


def _finish(plan: Plan) -> int:
    if plan.elect:
        return AGREED if plan.divide else ELECT
    return SUM if plan.divisor == 1.0 or fp32(plan.divisor) == 1.0 else DIVIDED


def _shape(plan: Plan, finish: int, formats: tuple[int, int], kinds: Iterable[tuple[int, ...]]) -> Shape | None:
    """The fast path's shape of a job, or None. `kinds`: the formats, whether deltas, and the masks of its terms."""
    certain = finish == AGREED and all(term.weight > 2 * SMALLEST_DIVISOR for term in plan.terms)
    base = plan.base if plan.base in (0.0, 1.0) else None
    numbers = len(plan.terms), finish, base, fp32(plan.factor) != 1.0, _plain(plan), certain
    return _shape_of(formats, frozenset(kinds), plan.operand == "weights", *numbers)


@cache
def _shape_of(
    formats: tuple[int, int],
    kinds: frozenset[tuple[int, ...]],
    weights: bool,
    terms: int,
    finish: int,
    base: float | None,
    scaled: bool,
    plain: bool,
    certain: bool,
) -> Shape | None:
    """`base`: 0 or 1, None for other factors."""
    kind, out = formats
    operands, masks = {row[:2] for row in kinds}, {row[2] for row in kinds} - {KEEP}
    if BAND in masks:
        masks.discard(FLOOR)
    known = len(masks) <= 1 and RANKED not in masks and base is not None
    alike = operands in ({(kind, False)}, {(F32, True)})
    if not (known and alike and kind == out != F32 and terms <= MOST_FUSED):
        return None
    return Shape(
        terms=terms,
        kind=kind,
        deltas=(F32, True) in operands,
        weights=weights,
        mask=masks.pop() if masks else KEEP,
        finish=finish,
        base=base != 0.0,
        scaled=scaled,
        plain=plain and operands == {(kind, False)},
        certain=certain,
    )


def _plain(plan: Plan) -> bool:
    """Whether a sum of such deltas may begin with its first term instead of +0: it is -0 only where all are, x = -0 and
    θ = +0, and there θ + λ · S is +0 either way."""
    least = min((term.factor for term in plan.terms), default=1.0)
    return plan.operand == "delta" and plan.base == 1.0 and plan.factor > 0.0 and least >= LEAST_PLAIN


def _segments(jobs: Sequence[Job]) -> Array:
    """int64 [segments, 4]: job, local, flat, length, without empty ones. Raises MergeError for a pair cut in two."""
    rows = [(number, s.local, s.flat, s.length) for number, job in enumerate(jobs) for s in job.segments if s.length]
    segments: Array = np.array(rows, np.int64).reshape(-1, 4)
    narrow = np.array([job.out.element_size() == 2 for job in jobs], np.bool_)
    sizes = np.array([math.prod(job.total.shape) for job in jobs], np.int64)
    owner, flat, end = segments[:, 0], segments[:, 2], segments[:, 2] + segments[:, 3]
    cut = narrow[owner] & cuts_pair(flat, end, sizes[owner])
    if cut.any():
        at = int(np.argmax(cut))
        raise pair_cut(jobs[owner[at]].name, flat[at], end[at])
    return segments


def _pieces(segments: Array) -> Array:
    """int64 [chunks, 4]: the segments, cut at multiples of CHUNK of the tensor's elements; see Tables.chunks."""
    owner, local, flat, length = segments.T
    first = flat // CHUNK
    counts = (flat + length - 1) // CHUNK - first + 1
    of = np.repeat(np.arange(len(segments)), counts)
    place = np.arange(len(of)) - (np.cumsum(counts) - counts - first)[of]
    start = np.maximum(place * CHUNK, flat[of])
    stop = np.minimum((place + 1) * CHUNK, (flat + length)[of])
    return np.stack([owner[of], start + (local - flat)[of], start, stop - start], axis=1)


def _by_shape(pieces: Array, shapes: Sequence[Shape | None]) -> tuple[Array, list[tuple[Shape | None, int, int]]]:
    """The chunks in runs of one shape. The fast path takes a vector of pairs or more: a tensor's odd last element goes
    by itself, and so does what is shorter."""
    number: dict[Shape | None, int] = {None: 0}
    kinds = np.array([number.setdefault(shape, len(number)) for shape in shapes], np.int64)[pieces[:, 0]]
    kinds[pieces[:, 3] < 2 * LANES] = 0
    odd = (pieces[:, 3] & 1) * (kinds > 0)
    ends = pieces[odd == 1]
    ends[:, 1:3] += ends[:, 3:] - 1
    ends[:, 3] = 1
    pieces = pieces - odd[:, None] * np.array([0, 0, 0, 1])
    parts, runs, first = [], [], 0
    for shape, kind in number.items():
        part = pieces[(kinds == kind) & (pieces[:, 3] > 0)]
        part = np.concatenate([part, ends]) if shape is None else part
        if len(part):
            parts.append(part)
            runs.append((shape, first, first + len(part)))
            first += len(part)
    return np.concatenate(parts) if parts else np.empty((0, 4), np.int64), runs
