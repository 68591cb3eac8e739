"""The compiled part of cpu_order.py. Import it late."""

from typing import Any

import numpy as np

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_measure import BLOCK
from automerge.merge.kernels.cpu_measure_loop import HALF, read, read_one
from automerge.merge.kernels.cpu_words import (
    LOW,
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
    word,
    xor,
)

DIGITS = 4  # of a magnitude's 32 bits, 8 bits each
BASE = 256
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
def count_lower(values: Any, upper: Any, begin: Any, end: Any, n: Any, counts: Any) -> None:
    """Adds to counts, int64 [65536], the blocks' elements whose upper half is `upper`, by the lower half."""
    theta, found = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    here = np.empty(BLOCK, np.uint32)
    wanted = left(word(upper), S16)
    for block in range(begin, end):
        count = min(BLOCK, n - block * BLOCK)
        read(values, block * BLOCK, count, theta, found)
        if count < BLOCK:  # what fills the block up must not count
            found[count // 2 + count % 2 : HALF] = np.nan
            found[HALF + count // 2 :] = np.nan
        met = 0
        for i in range(BLOCK):
            rest = xor(both(bits(found[i]), MAGNITUDE), wanted)
            here[met] = rest
            met += 1 if rest <= LOW else 0
        for i in range(met):
            counts[here[i]] += 1


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
