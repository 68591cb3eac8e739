"""Vectors in staged code: memory, the two numbers of a word, rounding, the hash of masks and checksum.

Two neighbouring 16-bit elements lie in one 32-bit word, LANES of which are a vector. Told what to do with vectors, LLVM
compares, chooses and rounds both elements of a pair by one instruction on halves of words; a loop over words it would
turn into vectors of whole words. Addresses and indices are 64-bit values. It knows no plan and no job. Import it late.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from automerge.merge.kernels.cpu_staged import FLOAT, HALVES, I8, I32, I64, NUMBERS, WORDS, Value
from automerge.merge.kernels.cpu_table import F16, LANES
from automerge.merge.kernels.cpu_words import FIRST, SECOND

LOW, HIGH, MAGNITUDE, SIGN = 0xFFFF, 0xFFFF0000, 0x7FFFFFFF, 0x80000000


def _at(address: Value, index: Value, size: int, kind: Any) -> Any:
    """The pointer to what begins at the index-th of items of so many bytes."""
    return address.builder.inttoptr((address + index * size).value, kind.as_pointer())


def load(address: Value, index: Value) -> Value:
    """The words from the index-th on. Aligned as the elements, for a pair of 16-bit ones may begin anywhere."""
    return Value(address.builder, address.builder.load(_at(address, index, 4, WORDS), align=2))


def store(address: Value, index: Value, words: Value) -> None:
    """Writes them from the index-th word on."""
    address.builder.store(words.value, _at(address, index, 4, WORDS), align=2)


def store_past(address: Value, index: Value, words: Value) -> None:
    """The same past the cache, which would read the line first. At a multiple of a vector's bytes; see `fence`."""
    builder = address.builder
    written = builder.store(words.value, _at(address, index, 4, WORDS), align=4 * LANES)
    written.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))


def fence(anything: Value) -> None:
    """What was stored past the cache is there for other threads before what is stored from here on."""
    anything.builder.fence("seq_cst")


def load_numbers(address: Value, index: Value) -> tuple[Value, Value]:
    """fp32 numbers: 2i, 2i + 2, … and 2i + 1, 2i + 3, …"""
    place = _at(address, index, 8, ir.VectorType(FLOAT, 2 * LANES))
    loaded = Value(address.builder, address.builder.load(place, align=4))
    return loaded.lanes(range(0, 2 * LANES, 2)), loaded.lanes(range(1, 2 * LANES, 2))


def fetch(address: Value, index: Value) -> None:
    """The index-th word's line into the first-level cache, wherever it is: what cannot be read is not."""
    builder = address.builder
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    reading, closest, data = I32(0), I32(3), I32(1)
    builder.call(prefetch, [_at(address, index, 4, I8), reading, closest, data])


def counted(first: Value) -> Value:
    """The words first, first + 1, …"""
    return first.fill() + first.fill().other(list(range(LANES)))


# ── number formats ──


def as_numbers(kind: int, pairs: Value) -> tuple[Value, Value]:
    """fp32 of the first of two 16-bit numbers in each word, and of the second."""
    if kind == F16:
        return _from_f16(pairs & LOW), _from_f16(pairs >> 16)
    return (pairs << 16).bits(NUMBERS), (pairs & HIGH).bits(NUMBERS)


def as_pairs(kind: int, low: Value, high: Value) -> Value:
    """Words of two 16-bit numbers, each an fp32 one rounded to nearest even."""
    if kind == F16:
        return _to_f16(low.bits(WORDS)) | _to_f16(high.bits(WORDS)) << 16
    return _to_bf16(low.bits(WORDS), high.bits(WORDS))


def _from_f16(half: Value) -> Value:
    size = (half & 0x7FFF) << 13
    # subnormal: an fp32 number with this fraction, less its leading one
    leading = size.other(113 << 23)
    small = ((size + leading).bits(NUMBERS) - leading.bits(NUMBERS)).bits(WORDS)
    normal = (size < 31 << 23).where(size + (112 << 23), size | 0x7F800000)
    normal = (size < 1 << 23).where(small, normal)
    return (normal | (half & 0x8000) << 16).bits(NUMBERS)


def _to_f16(value: Value) -> Value:
    """Beyond its range infinity."""
    size = value & MAGNITUDE
    result = (size + 0xFFF + (size >> 13 & 1) - (112 << 23)) >> 13
    # subnormal: the sum's last place is fp16's smallest step
    small = (size.bits(NUMBERS) + 0.5).bits(WORDS) - 0x3F000000
    result = (size < 113 << 23).where(small, result)
    result = (size < 0x477FF000).where(result, 0x7C00)
    result = (size > 0x7F800000).where(result.other(0x7E00), result)
    return result | value >> 16 & 0x8000


def _to_bf16(low: Value, high: Value) -> Value:
    """Of both numbers the upper half, one more where the lower is above half of it, or half and the upper is odd."""
    kept = (low >> 16 | high & HIGH).bits(HALVES)
    rest = (low & LOW | high << 16).bits(HALVES)
    even = ~kept & 1
    # rest − even, not below 0: its upper bit says whether to round up
    carry = ((rest > even).where(rest, even) - even) >> 15
    return (kept + carry).bits(WORDS)


def where_reached(lanes: Value, level: Value, reached: Value, missed: Any) -> Value:
    """Of each half: where the lane is the level or above, what is `reached`."""
    met = lanes.bits(HALVES) >= level.bits(HALVES)
    return met.where(reached.bits(HALVES), reached.other(missed).bits(HALVES)).bits(WORDS)


# ── the hashes, as in cpu_words.py ──


def lanes_of(pairs: Value, key: Value, middle: Value) -> Value:
    """masks.py's lanes of pairs, the even element's in the low half; the keys are cpu_words.spread's."""
    x = (pairs ^ key) * int(FIRST)
    y = (x ^ x >> 15 ^ middle) * int(SECOND)
    return y ^ y >> 16


def hashed(x: Value) -> Value:
    """lowbias32."""
    x = (x ^ x >> 16) * int(FIRST)
    x = (x ^ x >> 15) * int(SECOND)
    return x ^ x >> 16


def long(value: Value, *, signed: bool = False) -> Value:
    """A word as a whole number of 64 bits."""
    return value.wide(I64, signed=signed)
