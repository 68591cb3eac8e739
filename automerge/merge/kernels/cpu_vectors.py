"""Vectors of 32-bit words and of fp32 numbers in compiled code: what cpu_words.py has for one, for LANES at once.

LLVM turns a loop over pairs of 16-bit elements into vectors by itself, but into vectors of whole words only. Given
vectors, both elements of a pair are compared, chosen and rounded by one instruction on halves of words. The functions
are a few LLVM instructions each, of no machine in particular. It knows no plan and no job. Import it late.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from automerge.merge.kernels.cpu_table import F16, LANES
from automerge.merge.kernels.cpu_words import FIRST, HIGH, LOW, S15, S16, SECOND, inline, instruction

_I1, _I8, _I16, _I32, _I64 = map(ir.IntType, (1, 8, 16, 32, 64))
_FLOAT = ir.FloatType()
_HALVES = ir.VectorType(_I16, 2 * LANES)
_WORDS = ir.VectorType(_I32, LANES)
_NUMBERS = ir.VectorType(_FLOAT, LANES)


class _Words(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name=f"words_{LANES}")


class _Numbers(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name=f"numbers_{LANES}")


@register_model(_Words)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORDS)


@register_model(_Numbers)
class _NumbersModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _NUMBERS)


words, numbers = _Words(), _Numbers()
_word, _number, _long = types.uint32, types.float32, types.int64


def _function(result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """A function of compiled code with such types, which `emit` (builder, values) makes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        made = emit(builder, *values)
        return context.get_dummy_value() if result is types.void else made

    # numba wants every argument by name
    if len(arguments) == 1:

        @instruction
        def one(context: Any, a: Any) -> Any:
            return result(*arguments), generate

        return one
    if len(arguments) == 2:

        @instruction
        def two(context: Any, a: Any, b: Any) -> Any:
            return result(*arguments), generate

        return two
    if len(arguments) == 3:

        @instruction
        def three(context: Any, a: Any, b: Any, c: Any) -> Any:
            return result(*arguments), generate

        return three

    @instruction
    def four(context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return result(*arguments), generate

    return four


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _shuffled(builder: Any, vector: Any, lanes: list[int]) -> Any:
    empty = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, empty, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _pointer(builder: Any, address: Any, kind: Any, index: Any, size: int) -> Any:
    """Of a vector whose first item is the index-th of so many bytes each."""
    return builder.inttoptr(builder.add(address, builder.mul(index, _I64(size))), kind.as_pointer())


def _every(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


fill = _function(words, (_word,), lambda b, x: _splat(b, x, _WORDS))
fill_numbers = _function(numbers, (_number,), lambda b, x: _splat(b, x, _NUMBERS))
add = _function(words, (words, words), lambda b, x, y: b.add(x, y))
sub = _function(words, (words, words), lambda b, x, y: b.sub(x, y))
mul = _function(words, (words, words), lambda b, x, y: b.mul(x, y))
xor = _function(words, (words, words), lambda b, x, y: b.xor(x, y))
both = _function(words, (words, words), lambda b, x, y: b.and_(x, y))
either = _function(words, (words, words), lambda b, x, y: b.or_(x, y))
left = _function(words, (words, words), lambda b, x, y: b.shl(x, y))
right = _function(words, (words, words), lambda b, x, y: b.lshr(x, y))
right_signed = _function(words, (words, words), lambda b, x, y: b.ashr(x, y))
number = _function(numbers, (words,), lambda b, x: b.bitcast(x, _NUMBERS))
bits = _function(words, (numbers,), lambda b, x: b.bitcast(x, _WORDS))
plus = _function(numbers, (numbers, numbers), lambda b, x, y: b.fadd(x, y))
minus = _function(numbers, (numbers, numbers), lambda b, x, y: b.fsub(x, y))
times = _function(numbers, (numbers, numbers), lambda b, x, y: b.fmul(x, y))
over = _function(numbers, (numbers, numbers), lambda b, x, y: b.fdiv(x, y))
load = _function(
    words, (_long, _long), lambda b, at, i: b.load(_pointer(b, at, _WORDS, i, 4), align=2)
)  # of the elements, for a pair of 16-bit ones may begin anywhere
# into the first-level cache, for reading and for writing
fetch = _function(types.void, (_long, _long), lambda b, at, i: _fetch(b, at, i, 0))
fetch_output = _function(types.void, (_long, _long), lambda b, at, i: _fetch(b, at, i, 1))
store = _function(
    types.void, (_long, _long, words), lambda b, at, i, x: b.store(x, _pointer(b, at, _WORDS, i, 4), align=2)
)


def _fetch(builder: Any, address: Any, index: Any, writing: int) -> None:
    """The line of that word, wherever it is: what cannot be read is not."""
    kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    closest, data = _I32(3), _I32(1)
    builder.call(prefetch, [_pointer(builder, address, _I8, index, 4), _I32(writing), closest, data])


def _numbered(builder: Any, first: Any) -> Any:
    return builder.add(_splat(builder, first, _WORDS), ir.Constant(_WORDS, list(range(LANES))))


def _load_every_other(builder: Any, address: Any, index: Any, first: int) -> Any:
    kind = ir.VectorType(_FLOAT, 2 * LANES)
    loaded = builder.load(_pointer(builder, address, kind, index, 8), align=4)
    return _shuffled(builder, loaded, list(range(first, 2 * LANES, 2)))


def _reached(builder: Any, lanes: Any, level: Any, reached: Any, missed: Any) -> Any:
    lanes, level, reached, missed = (builder.bitcast(x, _HALVES) for x in (lanes, level, reached, missed))
    return builder.bitcast(builder.select(builder.icmp_unsigned(">=", lanes, level), reached, missed), _WORDS)


def _rounded(builder: Any, low: Any, high: Any) -> Any:
    """Of both numbers the upper half, one more where the lower is above half of it, or half and the upper is odd."""
    sixteen, upper, lower = _every(_WORDS, 16), _every(_WORDS, 0xFFFF0000), _every(_WORDS, 0xFFFF)
    kept = builder.or_(builder.lshr(low, sixteen), builder.and_(high, upper))
    rest = builder.or_(builder.and_(low, lower), builder.shl(high, sixteen))
    kept, rest = builder.bitcast(kept, _HALVES), builder.bitcast(rest, _HALVES)
    even = builder.and_(builder.not_(kept), _every(_HALVES, 1))
    # rest − even, not below 0: its upper bit says whether to round up
    larger = builder.select(builder.icmp_unsigned(">", rest, even), rest, even)
    carry = builder.lshr(builder.sub(larger, even), _every(_HALVES, 15))
    return builder.bitcast(builder.add(kept, carry), _WORDS)


def _where(compare: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    return lambda builder, a, b, x, y: builder.select(compare(builder, a, b), x, y)


def _mask(builder: Any, compared: Any) -> Any:
    return builder.zext(builder.bitcast(compared, ir.IntType(LANES)), _I32)


def _lane(builder: Any, vector: Any, index: Any) -> Any:
    return builder.extract_element(vector, builder.trunc(index, _I32))


numbered = _function(words, (_word,), _numbered)  # first, first + 1, …
# fp32 numbers 2i, 2i + 2, … and 2i + 1, 2i + 3, …
load_even = _function(numbers, (_long, _long), lambda b, at, i: _load_every_other(b, at, i, 0))
load_odd = _function(numbers, (_long, _long), lambda b, at, i: _load_every_other(b, at, i, 1))
reached = _function(words, (words, words, words, words), _reached)  # of each half: where a ≥ b then c else d
rounded = _function(words, (words, words), _rounded)  # the bits of pairs of fp32 numbers as pairs of bf16 ones
# where a ≤ b, a < b, a > b then c else d; no for what is no number
where_most = _function(
    numbers, (numbers, numbers, numbers, numbers), _where(lambda b, x, y: b.fcmp_ordered("<=", x, y))
)
where_below = _function(
    numbers, (numbers, numbers, numbers, numbers), _where(lambda b, x, y: b.fcmp_ordered("<", x, y))
)
where_above = _function(
    numbers, (numbers, numbers, numbers, numbers), _where(lambda b, x, y: b.fcmp_ordered(">", x, y))
)
# bit i: whether lane i of a is at most that of b; the place of a word's lowest bit that is 1
lanes_most = _function(_word, (words, words), lambda b, x, y: _mask(b, b.icmp_unsigned("<=", x, y)))
lowest = _function(_long, (_word,), lambda b, x: b.zext(b.cttz(x, _I1(1)), _I64))
where_smaller = _function(words, (words, words, words, words), _where(lambda b, x, y: b.icmp_unsigned("<", x, y)))
lane = _function(_word, (words, _long), _lane)


# ── number formats, as in cpu_words.py ──


@inline
def from_f16(half: Any) -> Any:
    """fp32 of fp16 numbers, exactly."""
    size = left(both(half, fill(np.uint32(0x7FFF))), fill(np.uint32(13)))
    normal = add(size, fill(np.uint32(112 << 23)))
    # subnormal: an fp32 number with this fraction, less its leading one
    leading = fill(np.uint32(113 << 23))
    small = bits(minus(number(add(size, leading)), number(leading)))
    endless = either(size, fill(np.uint32(0x7F800000)))
    normal = where_smaller(size, fill(np.uint32(31 << 23)), normal, endless)
    normal = where_smaller(size, fill(np.uint32(1 << 23)), small, normal)
    return number(either(normal, left(both(half, fill(np.uint32(0x8000))), fill(S16))))


@inline
def to_f16(value: Any) -> Any:
    """fp16, to nearest even; beyond its range infinity."""
    size = both(value, fill(np.uint32(0x7FFFFFFF)))
    odd = both(right(size, fill(np.uint32(13))), fill(np.uint32(1)))
    raised = add(add(size, fill(np.uint32(0xFFF))), odd)
    result = right(sub(raised, fill(np.uint32(112 << 23))), fill(np.uint32(13)))
    # subnormal: the sum's last place is fp16's smallest step
    small = sub(bits(plus(number(size), fill_numbers(np.float32(0.5)))), fill(np.uint32(0x3F000000)))
    result = where_smaller(size, fill(np.uint32(113 << 23)), small, result)
    result = where_smaller(size, fill(np.uint32(0x477FF000)), result, fill(np.uint32(0x7C00)))
    result = where_smaller(fill(np.uint32(0x7F800000)), size, fill(np.uint32(0x7E00)), result)
    return either(result, both(right(value, fill(S16)), fill(np.uint32(0x8000))))


@inline
def low_numbers(kind: Any, pairs: Any) -> Any:
    """fp32 of the first of two 16-bit numbers in each word."""
    return from_f16(both(pairs, fill(LOW))) if kind == F16 else number(left(pairs, fill(S16)))


@inline
def high_numbers(kind: Any, pairs: Any) -> Any:
    """fp32 of the second."""
    return from_f16(right(pairs, fill(S16))) if kind == F16 else number(both(pairs, fill(HIGH)))


@inline
def rounded_pairs(kind: Any, low: Any, high: Any) -> Any:
    """Two numbers' fp32 bits as words of two 16-bit numbers."""
    return either(to_f16(low), left(to_f16(high), fill(S16))) if kind == F16 else rounded(low, high)


# ── the hashes, as in cpu_words.py ──


@inline
def lanes_of(pairs: Any, key: Any, middle: Any) -> Any:
    """masks.py's lanes of pairs, the even element's in the low half; the keys are cpu_words.spread's."""
    x = mul(xor(pairs, key), fill(FIRST))
    y = mul(xor(xor(x, right(x, fill(S15))), middle), fill(SECOND))
    return xor(y, right(y, fill(S16)))


@inline
def hashed(x: Any) -> Any:
    """lowbias32."""
    x = mul(xor(x, right(x, fill(S16))), fill(FIRST))
    x = mul(xor(x, right(x, fill(S15))), fill(SECOND))
    return xor(x, right(x, fill(S16)))
