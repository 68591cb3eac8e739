"""32-bit words in compiled code: arithmetic that stays in 32 bits, raw memory, number formats, the hash, the checksum.

numba widens int32 arithmetic to 64 bits, which would halve the speed of every vector loop; these intrinsics are single
LLVM instructions on 32 bits. Addresses are int64, indices count items. It knows no job. Import it late.
"""

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

from automerge.merge import hash32
from automerge.merge.checksum import GOLDEN
from automerge.merge.kernels.cpu_table import F16
from automerge.merge.plan import SMALLEST_DIVISOR

_U = np.uint32
ZERO, ONE, S15, S16 = _U(0), _U(1), _U(15), _U(16)
LOW, HIGH, SIGN, MAGNITUDE = _U(0xFFFF), _U(0xFFFF0000), _U(0x80000000), _U(0x7FFFFFFF)
FIRST, SECOND, STEP = _U(hash32.FIRST_FACTOR), _U(hash32.SECOND_FACTOR), _U(GOLDEN)
NAUGHT = np.float32(0.0)
TINY = np.float32(SMALLEST_DIVISOR)
UNIT = np.float32(1.0)

inline: Callable[[Callable[..., Any]], Any] = numba.njit(forceinline=True, error_model="numpy")
apart: Callable[[Callable[..., Any]], Any] = numba.njit(error_model="numpy")  # compiled once, not at each call
instruction: Callable[[Callable[..., Any]], Any] = numba.extending.intrinsic


def _one(argument: Any, result: Any, emit: Callable[[Any, Any], Any]) -> Any:
    @instruction
    def single(context: Any, a: Any) -> Any:
        return result(argument), lambda _context, builder, _signature, values: emit(builder, *values)

    return single


def _two(arguments: Any, result: Any, emit: Callable[[Any, Any, Any], Any]) -> Any:
    @instruction
    def single(context: Any, a: Any, b: Any) -> Any:
        return result(*arguments), lambda _context, builder, _signature, values: emit(builder, *values)

    return single


def _pointer(builder: Any, address: Any, kind: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index])


_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_word, _number, _long = types.uint32, types.float32, types.int64
_words, _place = (_word, _word), (_long, _long)

add = _two(_words, _word, lambda b, x, y: b.add(x, y))
sub = _two(_words, _word, lambda b, x, y: b.sub(x, y))
mul = _two(_words, _word, lambda b, x, y: b.mul(x, y))
xor = _two(_words, _word, lambda b, x, y: b.xor(x, y))
both = _two(_words, _word, lambda b, x, y: b.and_(x, y))
either = _two(_words, _word, lambda b, x, y: b.or_(x, y))
left = _two(_words, _word, lambda b, x, y: b.shl(x, y))
right = _two(_words, _word, lambda b, x, y: b.lshr(x, y))
number = _one(_word, _number, lambda b, x: b.bitcast(x, _FLOAT))
bits = _one(_number, _word, lambda b, x: b.bitcast(x, _I32))
word = _one(_long, _word, lambda b, x: b.trunc(x, _I32))
# alignments are those of the elements, for a pair of 16-bit ones may begin anywhere
load = _two(_place, _word, lambda b, at, i: b.load(_pointer(b, at, _I32, i), align=2))
load_half = _two(_place, _word, lambda b, at, i: b.zext(b.load(_pointer(b, at, _I16, i), align=2), _I32))
load_number = _two(_place, _number, lambda b, at, i: b.load(_pointer(b, at, _FLOAT, i), align=4))


@instruction
def store(context: Any, at: Any, index: Any, value: Any) -> Any:
    """Writes a 32-bit word."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _pointer(builder, values[0], _I32, values[1]), align=2)
        return context.get_dummy_value()

    return types.void(_long, _long, _word), emit


@instruction
def store_half(context: Any, at: Any, index: Any, value: Any) -> Any:
    """Writes the low 16 bits of a word."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        low = builder.trunc(values[2], _I16)
        builder.store(low, _pointer(builder, values[0], _I16, values[1]), align=2)
        return context.get_dummy_value()

    return types.void(_long, _long, _word), emit


# ── number formats: `half` is a word whose low 16 bits are the number ──


@inline
def from_f16(half: Any) -> Any:
    """fp32 of an fp16 number, exactly."""
    size = left(both(half, _U(0x7FFF)), _U(13))
    normal = add(size, _U(112 << 23))
    if size >= _U(31 << 23):
        normal = either(size, _U(0x7F800000))
    if size < _U(1 << 23):  # subnormal: an fp32 number with this fraction, less its leading one
        normal = bits(number(add(size, _U(113 << 23))) - number(_U(113 << 23)))
    return number(either(normal, left(both(half, _U(0x8000)), S16)))


@inline
def to_f16(value: Any) -> Any:
    """fp16, to nearest even; beyond its range infinity."""
    size = both(value, MAGNITUDE)
    result = right(sub(add(add(size, _U(0xFFF)), both(right(size, _U(13)), ONE)), _U(112 << 23)), _U(13))
    if size < _U(113 << 23):  # the sum's last place is fp16's smallest step
        result = sub(bits(number(size) + np.float32(0.5)), _U(0x3F000000))
    if size >= _U(0x477FF000):
        result = _U(0x7C00)
    if size > _U(0x7F800000):
        result = _U(0x7E00)
    return either(result, both(right(value, S16), _U(0x8000)))


@inline
def round_up(value: Any) -> Any:
    """The bits of an fp32 number whose upper half is bf16, to nearest even."""
    return add(add(value, _U(0x7FFF)), both(right(value, S16), ONE))


@inline
def low_number(kind: Any, pair: Any) -> Any:
    """fp32 of the first of two 16-bit numbers in a word."""
    return from_f16(both(pair, LOW)) if kind == F16 else number(left(pair, S16))


@inline
def high_number(kind: Any, pair: Any) -> Any:
    """fp32 of the second."""
    return from_f16(right(pair, S16)) if kind == F16 else number(both(pair, HIGH))


@inline
def rounded_pair(kind: Any, low: Any, high: Any) -> Any:
    """Two numbers' fp32 bits as one word of two 16-bit numbers."""
    if kind == F16:
        return either(to_f16(low), left(to_f16(high), S16))
    return either(right(round_up(low), S16), both(round_up(high), HIGH))


# ── the hash of masks.py, its second key moved behind the shift:
#    x ^ k ^ ((x ^ k) >> 15) = x ^ (x >> 15) ^ (k ^ (k >> 15)) ──


@inline
def spread(pair: Any, key: Any, middle: Any) -> Any:
    """The mask's word of a pair but for its last shift; `key` already holds the first shift, `middle` the second."""
    x = mul(xor(pair, key), FIRST)
    return mul(xor(xor(x, right(x, S15)), middle), SECOND)


@inline
def hashed(x: Any) -> Any:
    """lowbias32."""
    x = mul(xor(x, right(x, S16)), FIRST)
    x = mul(xor(x, right(x, S15)), SECOND)
    return xor(x, right(x, S16))


@inline
def sum_words(at: Any, words: Any, first: Any, hashes: Any) -> Any:
    """(Σ t, Σ t · l) of checksum.py over the words l = 0 … words − 1 at an address; word 0 is the tensor's `first`-th.

    `hashes` is int32 [words or more]: hashing and adding are two loops, as they run best in different vector widths.
    """
    key = mul(word(first), STEP)
    for i in range(words):
        hashes[i] = hashed(xor(load(at, i), key))
        key = add(key, STEP)
    total = np.int64(0)
    places = np.int64(0)
    for i in range(words):
        term = np.int64(hashes[i])
        total += term
        places += term * i
    return total, places
