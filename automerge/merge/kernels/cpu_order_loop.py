"""The compiled part of cpu_order.py. Import it late."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_measure import BLOCK
from automerge.merge.kernels.cpu_measure_loop import HALF, plain, read, read_one
from automerge.merge.kernels.cpu_staged import I1, I32, I64, WORDS, Value, staged, words
from automerge.merge.kernels.cpu_table import BF16, LANES
from automerge.merge.kernels.cpu_vectors import as_numbers, load, store
from automerge.merge.kernels.cpu_words import (
    MAGNITUDE,
    NAUGHT,
    ONE,
    S16,
    ZERO,
    add,
    bits,
    both,
    inline,
    left,
    right,
    sub,
    word,
)

DIGITS = 4  # of a magnitude's 32 bits, 8 bits each
BASE = 256
BELOW = 0xFFFE
BYTE, EIGHT, TOP = np.uint32(0xFF), np.uint32(8), np.uint32(24)


@compiled()
def count_upper(values: Any, begin: Any, end: Any, n: Any, counts: Any) -> None:
    """Adds to counts, int64 [32768], the blocks' elements by the upper half of |a|'s bits."""
    theta, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    odd = np.zeros(len(counts), np.int64)  # neighbours are often alike: they do not wait for each other's counter
    for block in range(begin, end):
        count = min(BLOCK, n - block * BLOCK)
        read(values, block * BLOCK, count, theta, found)
        for p in range(count // 2):
            counts[right(both(bits(found[p]), MAGNITUDE), S16)] += 1
            odd[right(both(bits(found[HALF + p]), MAGNITUDE), S16)] += 1
        if count & 1:
            counts[right(both(bits(found[count // 2]), MAGNITUDE), S16)] += 1
    for i in range(len(counts)):
        counts[i] += odd[i]


@compiled()
def gather_lower(values: Any, upper: Any, begin: Any, end: Any, n: Any, lower: Any) -> Any:
    """Of the blocks' |a| whose upper half is `upper`: writes to `lower`, uint16, the lower halves but those that are 0,
    and tells how many it wrote."""
    theta, found, here = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(LANES, np.uint32)
    at, buffer = np.int64(found.ctypes.data), (np.int64(here.ctypes.data), here)
    wanted, met = left(word(upper), S16), 0
    for block in range(begin, end):
        count = min(BLOCK, n - block * BLOCK)
        if count == BLOCK and plain(values):
            base, operand = values[0] + 2 * block * BLOCK, values[2] + 2 * block * BLOCK
            for p in range(0, HALF, LANES):
                low, high = _deltas(operand, base, p)
                met = _enter(low, wanted, buffer, lower, met)
                met = _enter(high, wanted, buffer, lower, met)
            continue
        read(values, block * BLOCK, count, theta, found)
        if count < BLOCK:  # what fills the block up must not count
            found[count // 2 + count % 2 : HALF] = np.nan
            found[HALF + count // 2 :] = np.nan
        for i in range(0, BLOCK, LANES):
            met = _enter(_loaded(at, i), wanted, buffer, lower, met)
    found[0], here[0] = NAUGHT, ZERO  # they live until here: numba does not know that their addresses are in use
    return met


@inline
def _enter(numbers: Any, wanted: Any, buffer: Any, lower: Any, met: Any) -> Any:
    """How many are met, after a vector whose wanted lanes are written; few vectors have any."""
    place, here = buffer
    rest, lanes = _compared(numbers, wanted)
    if lanes:
        _stored(place, 0, rest)
        while lanes:
            lower[met] = here[_lowest(lanes)]
            met += 1
            lanes = both(lanes, sub(lanes, ONE))
    return met


_loaded = staged(words, types.int64, types.int64)(load)
_stored = staged(types.void, types.int64, types.int64, words)(store)


@staged(types.UniTuple(words, 2), types.int64, types.int64, types.int64)
def _deltas(operand: Value, base: Value, index: Value) -> tuple[Value, ...]:
    """The bits of pairs' deltas: of the first of two elements, and of the second."""
    x, theta = as_numbers(BF16, load(operand, index)), as_numbers(BF16, load(base, index))
    return tuple((a - b).bits(WORDS) for a, b in zip(x, theta, strict=True))


@staged(types.Tuple((words, types.uint32)), words, types.uint32)
def _compared(numbers: Value, wanted: Value) -> tuple[Value, Value]:
    """The magnitudes' bits ^ wanted, and bit i: whether lane i of it is in 1 … 65535."""
    rest = numbers & int(MAGNITUDE) ^ wanted.fill()
    return rest, (rest - 1 <= BELOW).bits(ir.IntType(LANES)).wide(I32)


@staged(types.int64, types.uint32)
def _lowest(lanes: Value) -> Value:
    """The place of a word's lowest bit that is 1."""
    return Value(lanes.builder, lanes.builder.cttz(lanes.value, I1(1))).wide(I64)


@compiled()
def rank_rows(values: Any, columns: Any, begin: Any, end: Any, ranks: Any) -> None:
    """ranks[row · columns …] of the rows begin … end − 1, by a radix sort, which is stable."""
    sizes, others = np.empty(columns, np.uint32), np.empty(columns, np.uint32)
    places, turns = np.empty(columns, np.uint16), np.empty(columns, np.uint16)
    counts = np.empty((DIGITS, BASE), np.uint32)
    for row in range(begin, end):
        first = row * columns
        counts[:] = 0
        for i in range(columns):
            size = both(bits(_value(values, first + i)), MAGNITUDE)
            sizes[i] = size
            places[i] = i
            counts[0, both(size, BYTE)] += ONE
            counts[1, both(right(size, EIGHT), BYTE)] += ONE
            counts[2, both(right(size, S16), BYTE)] += ONE
            counts[3, right(size, TOP)] += ONE
        for digit in range(DIGITS):
            shift = word(8 * digit)
            if counts[digit, both(right(sizes[0], shift), BYTE)] < columns:  # else all are alike in it
                _sort(sizes, places, others, turns, shift, counts[digit])
                sizes, others = others, sizes
                places, turns = turns, places
        for rank in range(columns):
            ranks[first + places[rank]] = rank


@inline
def _sort(sizes: Any, places: Any, others: Any, turns: Any, shift: Any, counts: Any) -> None:
    """`others` and `turns` = sizes and places sorted by one digit, stably."""
    before = ZERO
    for value in range(BASE):
        here = counts[value]
        counts[value] = before
        before = add(before, here)
    for i in range(len(sizes)):
        value = both(right(sizes[i], shift), BYTE)
        to = counts[value]
        others[to] = sizes[i]
        turns[to] = places[i]
        counts[value] = add(to, ONE)


@inline
def _value(values: Any, index: Any) -> Any:
    """fp32 of one element of what cpu_measure.described describes."""
    base, kind, operand, stored, is_delta, delta = values
    if operand == 0:
        return NAUGHT if delta == 1 else read_one(kind, base, index)
    value = read_one(stored, operand, index)
    if is_delta == delta:
        return value
    theta = read_one(kind, base, index)
    return value - theta if delta == 1 else value + theta
