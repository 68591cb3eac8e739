"""Device code (Triton): one program merges PAIRS pairs of neighbouring elements and adds up their checksum.

It is plan.py's order of maths, masks.py's hash and checksum.py's, written once more. It is no Python: triton compiles
it, or interprets it where TRITON_INTERPRET=1. The tables it reads are made in cuda_layout.py and cuda_scalars.py.

| name | meaning | unit |
|---|---|---|
| pair | elements 2j and 2j + 1 of the whole tensor, by flat index; `lo` and `hi` are the even and the odd one | |
| READ | FULL: every program has all its pairs, every buffer is aligned to 16 bytes, loads of 16 bytes a thread | |
| | PARTIAL: the same, but a segment's last program has fewer, a multiple of 8; NARROW: anything, one element a load | |
| code | of a dtype: cuda_kind.py | |
"""
# mypy: ignore-errors
# ruff: noqa: RUF005

import triton
import triton.language as tl

from automerge.merge import hash32
from automerge.merge.checksum import GOLDEN
from automerge.merge.kernels import cuda_kind
from automerge.merge.plan import SMALLEST_DIVISOR
from automerge.merge.steps import fp32

FP32 = tl.constexpr(cuda_kind.FP32)
BF16 = tl.constexpr(cuda_kind.BF16)
FP16 = tl.constexpr(cuda_kind.FP16)
FULL = tl.constexpr(cuda_kind.FULL)
NARROW = tl.constexpr(cuda_kind.NARROW)
DROP = tl.constexpr(cuda_kind.DROP)
BAND = tl.constexpr(cuda_kind.BAND)
RANKED = tl.constexpr(cuda_kind.RANKED)
ABSENT = tl.constexpr(cuda_kind.ABSENT)
SCALED = tl.constexpr(cuda_kind.SCALED)

# int64 columns of a segment, then TERM_COLUMNS a term
BASE, OUT, FLAT, LENGTH, PROGRAM, ROW, JOB = (tl.constexpr(column) for column in range(7))
SEGMENT_COLUMNS = tl.constexpr(cuda_kind.SEGMENT_COLUMNS)
VALUES, RANKS, LEVELS, FACTORS = (tl.constexpr(column) for column in range(4))
TERM_COLUMNS = tl.constexpr(cuda_kind.TERM_COLUMNS)

# 32-bit columns of a row of scalars, then TERM_SCALARS a term
DIVISOR, BASE_FACTOR, TOTAL_FACTOR = (tl.constexpr(column) for column in range(3))
ROW_SCALARS = tl.constexpr(cuda_kind.ROW_SCALARS)
FACTOR, WEIGHT, LOW, HIGH, LEVEL, KEY0, KEY1 = (tl.constexpr(column) for column in range(7))
TERM_SCALARS = tl.constexpr(cuda_kind.TERM_SCALARS)

# int64 columns of a slot of results
SUM_A, SUM_B, NOT_FINITE = (tl.constexpr(column) for column in range(3))
RESULT_COLUMNS = tl.constexpr(cuda_kind.RESULT_COLUMNS)

FIRST_MULTIPLIER = tl.constexpr(hash32.FIRST_FACTOR)
SECOND_MULTIPLIER = tl.constexpr(hash32.SECOND_FACTOR)
INDEX_MULTIPLIER = tl.constexpr(GOLDEN)
SMALLEST = tl.constexpr(fp32(SMALLEST_DIVISOR))


@triton.jit
def merge_pairs(
    owners,
    segments,
    rows,
    results,
    BASE_CODE: tl.constexpr,
    OUT_CODE: tl.constexpr,
    TERMS: tl.constexpr,
    COUNT: tl.constexpr,
    DELTA: tl.constexpr,
    ELECT: tl.constexpr,
    DIVIDE: tl.constexpr,
    BASE_PART: tl.constexpr,
    TOTAL_SCALED: tl.constexpr,
    READ: tl.constexpr,
    HARDWARE: tl.constexpr,
    PAIRS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """`owners` int32 [programs], `segments` int64, `rows` int32, `results` int64 [jobs, SLOTS, RESULT_COLUMNS].

    TERMS holds COUNT tuples (code of the operand, whether it is a delta, kind of mask). HARDWARE rounds by the
    device's own packed conversion, which the interpreter and devices before compute capability 8.0 lack.
    """
    program = tl.program_id(0)
    segment = segments + tl.load(owners + program).to(tl.int64) * (SEGMENT_COLUMNS + TERM_COLUMNS * COUNT)
    row = rows + tl.load(segment + ROW) * (ROW_SCALARS + TERM_SCALARS * COUNT)
    flat = tl.load(segment + FLAT)
    start = (program - tl.load(segment + PROGRAM)) * PAIRS  # int64: this program's first pair, counted in the segment
    index = tl.arange(0, PAIRS)
    element, valid_lo, valid_hi = _elements(start, index, flat, tl.load(segment + LENGTH), READ, PAIRS)
    pair = _low32((flat >> 1) + start) + index.to(tl.uint32, bitcast=True)
    spread = pair ^ (pair >> 16)

    base_lo, base_hi = _read(tl.load(segment + BASE), BASE_CODE, start, element, valid_lo, valid_hi, READ)
    lows = ()
    highs = ()
    for i in tl.static_range(COUNT):
        term = segment + (SEGMENT_COLUMNS + TERM_COLUMNS * i)
        scalars = row + (ROW_SCALARS + TERM_SCALARS * i)
        lo, hi = _read(tl.load(term + VALUES), TERMS[i][0], start, element, valid_lo, valid_hi, READ)
        lo = _operand(lo, base_lo, TERMS[i][1], DELTA)
        hi = _operand(hi, base_hi, TERMS[i][1], DELTA)
        if TERMS[i][2] == RANKED:
            lane_lo, lane_hi = _lanes(spread, scalars)
            rank_lo, rank_hi = _ranks(tl.load(term + RANKS), start, element, valid_lo, valid_hi, READ)
            lo = _ranked(lo, lane_lo, rank_lo, tl.load(term + LEVELS), tl.load(term + FACTORS), valid_lo)
            hi = _ranked(hi, lane_hi, rank_hi, tl.load(term + LEVELS), tl.load(term + FACTORS), valid_hi)
        elif TERMS[i][2] == DROP:
            lane_lo, lane_hi = _lanes(spread, scalars)
            level = tl.load(scalars + LEVEL).to(tl.uint32, bitcast=True) << 16
            lo = tl.where(lane_lo < level, 0.0, lo * _scalar(scalars + FACTOR))
            hi = tl.where(lane_hi < level, 0.0, hi * _scalar(scalars + FACTOR))
        elif TERMS[i][2] == BAND:
            lo = _banded(lo, scalars)
            hi = _banded(hi, scalars)
        else:
            lo = lo * _scalar(scalars + FACTOR)
            hi = hi * _scalar(scalars + FACTOR)
        lows = lows + (lo,)
        highs = highs + (hi,)

    lo = _merged(base_lo, lows, row, COUNT, ELECT, DIVIDE, BASE_PART, TOTAL_SCALED)
    hi = _merged(base_hi, highs, row, COUNT, ELECT, DIVIDE, BASE_PART, TOTAL_SCALED)
    result = results + (tl.load(segment + JOB) * SLOTS + program % SLOTS) * RESULT_COLUMNS
    _finish(
        lo, hi, tl.load(segment + OUT), start, element, valid_lo, valid_hi, pair, index, (flat >> 1) + start, result,
        OUT_CODE, READ, HARDWARE, PAIRS,
    )  # fmt: skip


@triton.jit
def _elements(start, index, flat, length, READ: tl.constexpr, PAIRS: tl.constexpr):
    """Where the pairs lie in the segment's buffers: in pairs after `start`, or (NARROW) the int64 elements of `lo`."""
    if READ == FULL:
        valid = tl.full((PAIRS,), True, tl.int1)
        return index, valid, valid
    elif READ != NARROW:
        left = tl.multiple_of(tl.minimum((length >> 1) - start, PAIRS).to(tl.int32), 8)
        valid = index < left
        return index, valid, valid
    else:  # spelled out here and below: what follows a return is compiled too
        element = 2 * (start + index) - (flat & 1)
        return element, (element >= 0) & (element < length), element + 1 < length


@triton.jit
def _low32(wide):
    """The low 32 bits of a non-negative int64."""
    return (wide & 0xFFFFFFFF).to(tl.uint32)


@triton.jit
def _scalar(at):
    """The fp32 number whose bits lie at an int32 pointer."""
    return tl.load(at).to(tl.float32, bitcast=True)


@triton.jit
def _pointer(address, KIND: tl.constexpr, ALIGNED: tl.constexpr):
    """A pointer from an int64 address; with ALIGNED it is a multiple of 16 bytes."""
    pointer = address.to(tl.pointer_type(KIND))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _read(address, CODE: tl.constexpr, start, element, valid_lo, valid_hi, READ: tl.constexpr):
    """fp32 [PAIRS] twice: the even and the odd elements, 0 where there is none."""
    if CODE != FP32:
        lo, hi = _halves(address, start, element, valid_lo, valid_hi, READ)
        return _widen(lo, CODE), _widen(hi, CODE)
    elif READ != NARROW:
        words = tl.load(_pointer(address, tl.uint64, True) + start + element, mask=valid_lo, other=0)
        lo = (words & 0xFFFFFFFF).to(tl.uint32).to(tl.float32, bitcast=True)
        return lo, (words >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
    else:
        pointer = _pointer(address, tl.float32, False) + element
        return tl.load(pointer, mask=valid_lo, other=0.0), tl.load(pointer + 1, mask=valid_hi, other=0.0)


@triton.jit
def _widen(half, CODE: tl.constexpr):
    """fp32 [PAIRS] from 16 bits."""
    if CODE == BF16:
        return (half << 16).to(tl.float32, bitcast=True)
    else:
        return half.to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _halves(address, start, element, valid_lo, valid_hi, READ: tl.constexpr):
    """uint32 [PAIRS] twice: the 16 bits of the even and of the odd elements."""
    if READ != NARROW:
        words = tl.load(_pointer(address, tl.uint32, True) + start + element, mask=valid_lo, other=0)
        return words & 0xFFFF, words >> 16
    else:
        pointer = _pointer(address, tl.uint16, False) + element
        lo = tl.load(pointer, mask=valid_lo, other=0)
        return lo.to(tl.uint32), tl.load(pointer + 1, mask=valid_hi, other=0).to(tl.uint32)


@triton.jit
def _operand(values, base, IS_DELTA: tl.constexpr, DELTA: tl.constexpr):
    """The delta or the weights, from what the source gives."""
    if DELTA and not IS_DELTA:
        values = values - base
    if IS_DELTA and not DELTA:
        values = values + base
    return values


@triton.jit
def _lanes(spread, scalars):
    """uint32 [PAIRS] twice: the random lanes of the even and of the odd elements, in the upper 16 bits.

    masks.py's hash of the pair, where the keys wait until behind each xor-shift: (w ^ k) >> s is (w >> s) ^ (k >> s).
    `spread` is the pair number after its own. What lies below a lane does not change how it compares to a level << 16.
    """
    key0 = tl.load(scalars + KEY0).to(tl.uint32, bitcast=True)
    key1 = tl.load(scalars + KEY1).to(tl.uint32, bitcast=True)
    word = (spread ^ (key0 ^ (key0 >> 16))) * FIRST_MULTIPLIER
    word = (word ^ (word >> 15) ^ (key1 ^ (key1 >> 15))) * SECOND_MULTIPLIER
    return word ^ (word << 16), word


@triton.jit
def _ranks(address, start, element, valid_lo, valid_hi, READ: tl.constexpr):
    """int32 [PAIRS] twice."""
    lo, hi = _halves(address, start, element, valid_lo, valid_hi, READ)
    return lo.to(tl.int32, bitcast=True), hi.to(tl.int32, bitcast=True)


@triton.jit
def _ranked(operand, lane, rank, levels, factors, valid):
    """The contribution under a Ranked mask."""
    level = tl.load(_pointer(levels, tl.int32, False) + rank, mask=valid, other=0)
    factor = tl.load(_pointer(factors, tl.float32, False) + rank, mask=valid, other=0.0)
    return tl.where(lane < (level.to(tl.uint32, bitcast=True) << 16), 0.0, operand * factor)


@triton.jit
def _banded(operand, scalars):
    """The contribution under a Band."""
    size = tl.abs(operand)
    outside = (size < _scalar(scalars + LOW)) | (size > _scalar(scalars + HIGH))
    return tl.where(outside, 0.0, operand * _scalar(scalars + FACTOR))


@triton.jit
def _merged(
    base, contributions, row,
    COUNT: tl.constexpr, ELECT: tl.constexpr, DIVIDE: tl.constexpr, BASE_PART: tl.constexpr, TOTAL_SCALED: tl.constexpr,
):  # fmt: skip
    """fp32 [PAIRS]: steps 3 to 6 of plan.py."""
    total = tl.zeros_like(base)
    for i in tl.static_range(COUNT):
        total = total + contributions[i]
    if ELECT:
        positive = total >= 0.0
        total = tl.zeros_like(base)
        divisor = tl.zeros_like(base)
        for i in tl.static_range(COUNT):
            one = contributions[i]
            left_out = tl.where(positive, one <= 0.0, one >= 0.0)
            total = total + tl.where(left_out, 0.0, one)
            if DIVIDE:
                weight = _scalar(row + (ROW_SCALARS + TERM_SCALARS * i + WEIGHT))
                divisor = divisor + tl.where(left_out, 0.0, weight)
        if DIVIDE:
            total = tl.div_rn(total, tl.where(tl.abs(divisor) < SMALLEST, 1.0, divisor))
    elif DIVIDE:
        total = tl.div_rn(total, tl.zeros_like(base) + _scalar(row + DIVISOR))
    if TOTAL_SCALED:
        total = total * _scalar(row + TOTAL_FACTOR)
    if BASE_PART == SCALED:
        base = base * _scalar(row + BASE_FACTOR)
    if BASE_PART != ABSENT:
        total = total + base
    return total


@triton.jit
def _round16(value, CODE: tl.constexpr):
    """uint32 [PAIRS]: the 16 bits of each fp32 number, rounded once to nearest even."""
    if CODE == FP16:
        return value.to(tl.float16).to(tl.uint16, bitcast=True).to(tl.uint32)
    else:
        bits = value.to(tl.uint32, bitcast=True)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(value == value, rounded, 0x7FC0)


@triton.jit
def _pack16(lo, hi, CODE: tl.constexpr, HARDWARE: tl.constexpr):
    """uint32 [PAIRS]: two rounded elements a word, `lo` in the low half."""
    if not HARDWARE:
        return _round16(lo, CODE) | (_round16(hi, CODE) << 16)
    elif CODE == BF16:
        return tl.inline_asm_elementwise(
            "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [lo, hi], dtype=tl.uint32, is_pure=True, pack=1
        )
    else:
        return tl.inline_asm_elementwise(
            "cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f", [lo, hi], dtype=tl.uint32, is_pure=True, pack=1
        )


@triton.jit
def _finish(
    lo, hi, address, start, element, valid_lo, valid_hi, pair, index, first, result,
    CODE: tl.constexpr, READ: tl.constexpr, HARDWARE: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Rounds, writes, and adds the words' checksum and whether one is not finite to `result`."""
    local = index - PAIRS // 2  # from the middle: a product of two signed 32-bit numbers is one instruction
    middle = first + PAIRS // 2
    if CODE == FP32:
        low = lo.to(tl.uint32, bitcast=True)
        high = hi.to(tl.uint32, bitcast=True)
        if READ != NARROW:
            words = low.to(tl.uint64) | (high.to(tl.uint64) << 32)
            tl.store(_pointer(address, tl.uint64, True) + start + element, words, mask=valid_lo)
        else:
            pointer = _pointer(address, tl.uint32, False) + element
            tl.store(pointer, low, mask=valid_lo)
            tl.store(pointer + 1, high, mask=valid_hi)
        term_lo = _checked(low, 2 * pair, valid_lo)
        term_hi = _checked(high, 2 * pair + 1, valid_hi)
        a = tl.sum(term_lo + term_hi)
        b = tl.sum((2 * local).to(tl.int64) * term_lo + (2 * local + 1).to(tl.int64) * term_hi)
        middle = 2 * middle
        overflow = _overflow(low, 0x7F800000, 0x00800000, 0x80000000, valid_lo)
        overflow = overflow | _overflow(high, 0x7F800000, 0x00800000, 0x80000000, valid_hi)
    else:
        if READ == NARROW:
            hi = tl.where(valid_hi, hi, 0.0)  # the high half of a last element alone is 0
        word = _pack16(lo, hi, CODE, HARDWARE)
        if READ != NARROW:
            tl.store(_pointer(address, tl.uint32, True) + start + element, word, mask=valid_lo)
        else:
            pointer = _pointer(address, tl.uint16, False) + element
            tl.store(pointer, (word & 0xFFFF).to(tl.uint16), mask=valid_lo)
            tl.store(pointer + 1, (word >> 16).to(tl.uint16), mask=valid_hi)
        term = _checked(word, pair, valid_lo)
        a = tl.sum(term)
        b = tl.sum(local.to(tl.int64) * term)
        if CODE == BF16:
            overflow = _overflow(word, 0x7F807F80, 0x00800080, 0x80008000, valid_lo)
        else:
            overflow = _overflow(word, 0x7C007C00, 0x04000400, 0x80008000, valid_lo)
    tl.atomic_add(result + SUM_A, a, sem="relaxed")
    tl.atomic_add(result + SUM_B, 2 * b + (2 * middle + 1) * a, sem="relaxed")
    not_finite = tl.max(overflow) != 0
    tl.store(result + NOT_FINITE, 1, mask=not_finite)


@triton.jit
def _checked(word, index, valid):
    """int64 [PAIRS]: the checksum's t of each word, 0 where there is none."""
    word = word ^ (index * INDEX_MULTIPLIER)
    word = (word ^ (word >> 16)) * FIRST_MULTIPLIER
    word = (word ^ (word >> 15)) * SECOND_MULTIPLIER
    term = (word ^ (word >> 16)).to(tl.int32, bitcast=True)
    return tl.where(valid, term, 0).to(tl.int64)


@triton.jit
def _overflow(word, EXPONENT: tl.constexpr, LOWEST: tl.constexpr, SIGN: tl.constexpr, valid):
    """uint32 [PAIRS], not 0 where an exponent has all its bits set, for then its lowest bit carries into the sign."""
    return tl.where(valid, ((word & EXPONENT) + LOWEST) & SIGN, 0)
