"""The compiled part of cpu_measure.py, and how compiled code reads Values. Import it late.

A block's 4096 values are fp32 in a buffer: first the 2048 of even index, then those of odd index; behind a tensor's end
they are +0. Halving puts elements of even and of odd index together only in its last step.
"""

from typing import Any

import numpy as np

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_measure import BLOCK, DOT, LARGEST, SIZES
from automerge.merge.kernels.cpu_table import BAND, BF16, DROP, F32, RANKED
from automerge.merge.kernels.cpu_words import (
    HIGH,
    LOW,
    MAGNITUDE,
    NAUGHT,
    S16,
    add,
    apart,
    bits,
    both,
    from_f16,
    high_number,
    inline,
    left,
    load,
    load_half,
    load_number,
    low_number,
    number,
    right,
    spread,
    word,
    xor,
)

HALF = BLOCK // 2


@compiled()
def measure_blocks(
    what: Any, begin: Any, end: Any, n: Any, one: Any, other: Any, mask: Any, band: Any, keys: Any, sums: Any
) -> None:
    """sums[block] of the blocks begin … end − 1; see cpu_measure.sums_of_blocks for what they are."""
    theta, a, b = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    even, odd = np.empty(HALF // 2, np.float64), np.empty(HALF // 2, np.float64)
    for block in range(begin, end):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        if what == SIZES and count == BLOCK and mask[0] <= DROP and plain(one):
            if mask[0] == DROP:
                _thinned_sizes(one[0] + 2 * start, one[2] + 2 * start, start, np.uint32(mask[1]), keys, even, odd)
            else:
                _sizes(one[0] + 2 * start, one[2] + 2 * start, even, odd)
            sums[block] = _halved(even) + _halved(odd)
            continue
        read(one, start, count, theta, a)
        if mask[0] != 0:
            _leave_out(mask, band, keys, start, count, a)
        if what == LARGEST:
            largest = np.uint32(0)
            for i in range(BLOCK):
                largest = max(largest, both(bits(a[i]), MAGNITUDE))
            sums[block] = np.float64(number(largest))
            continue
        if what == DOT:
            read(other, start, count, theta, b)
            _multiply(a, b, even, odd)
        elif what == SIZES:
            for p in range(HALF // 2):
                even[p] = np.float64(abs(a[p])) + np.float64(abs(a[p + HALF // 2]))
                odd[p] = np.float64(abs(a[HALF + p])) + np.float64(abs(a[HALF + p + HALF // 2]))
        else:
            _multiply(a, a, even, odd)
        sums[block] = _halved(even) + _halved(odd)


@inline
def read(values: Any, start: Any, count: Any, theta: Any, found: Any) -> None:
    """fp32 of the elements start … start + count − 1 of what cpu_measure.described describes; `start` even. `theta` is
    a buffer."""
    base, kind, operand, stored, is_delta, delta = values
    if operand == 0:
        if delta == 1:
            found[:] = NAUGHT
        else:
            _read_buffer(kind, base, start, count, found)
        return
    _read_buffer(stored, operand, start, count, found)
    if is_delta != delta:
        _read_buffer(kind, base, start, count, theta)
        if delta == 1:
            for i in range(BLOCK):
                found[i] -= theta[i]
        else:
            for i in range(BLOCK):
                found[i] += theta[i]


@apart
def _read_buffer(kind: Any, address: Any, start: Any, count: Any, found: Any) -> None:
    at = address + (4 if kind == F32 else 2) * start
    whole = count // 2
    if count < BLOCK:
        found[:] = NAUGHT
    if kind == F32:
        for p in range(whole):
            found[p] = load_number(at, 2 * p)
            found[HALF + p] = load_number(at, 2 * p + 1)
    elif kind == BF16:
        for p in range(whole):
            pair = load(at, p)
            found[p] = number(left(pair, S16))
            found[HALF + p] = number(both(pair, HIGH))
    else:
        for p in range(whole):
            pair = load(at, p)
            found[p] = from_f16(both(pair, LOW))
            found[HALF + p] = from_f16(right(pair, S16))
    if count & 1:
        found[whole] = read_one(kind, at, count - 1)


@inline
def read_one(kind: Any, at: Any, index: Any) -> Any:
    """fp32 of one element."""
    if kind == F32:
        return load_number(at, index)
    half = load_half(at, index)
    return number(left(half, S16)) if kind == BF16 else from_f16(half)


@inline
def _leave_out(mask: Any, band: Any, keys: Any, start: Any, count: Any, found: Any) -> None:
    """Elements that the mask drops become +0."""
    kind = mask[0]
    if kind == BAND:
        low, high = band[0], band[1]
        for i in range(BLOCK):
            size = abs(found[i])
            found[i] = NAUGHT if size < low or size > high else found[i]
        return
    lowest = word(start >> 1)
    key, middle = xor(keys[start >> 33, 0], right(lowest, S16)), keys[start >> 33, 1]
    if kind == DROP:
        level = np.uint32(mask[1])
        for p in range(HALF):
            y = spread(add(lowest, word(p)), key, middle)
            found[p] = found[p] if xor(y, left(y, S16)) >= level else NAUGHT
            found[HALF + p] = found[HALF + p] if y >= level else NAUGHT
    elif kind == RANKED:
        for p in range((count + 1) // 2):
            y = spread(add(lowest, word(p)), key, middle)
            if right(xor(y, left(y, S16)), S16) < load(mask[3], np.int64(load_half(mask[2], start + 2 * p))):
                found[p] = NAUGHT
            if 2 * p + 1 < count and right(y, S16) < load(mask[3], np.int64(load_half(mask[2], start + 2 * p + 1))):
                found[HALF + p] = NAUGHT


@inline
def plain(values: Any) -> Any:
    """Whether it is the delta of bfloat16 weights from a bfloat16 base, which is what most tensors are."""
    _, kind, operand, stored, is_delta, delta = values
    return kind == BF16 and stored == BF16 and operand != 0 and is_delta == 0 and delta == 1


@inline
def _sizes(base: Any, operand: Any, even: Any, odd: Any) -> None:
    """The first halving of |a| without buffers, for a whole block of what `plain` lets through."""
    for p in range(HALF // 2):
        x, y, theta, eta = load(operand, p), load(operand, p + HALF // 2), load(base, p), load(base, p + HALF // 2)
        even[p] = np.float64(_low_size(x, theta)) + np.float64(_low_size(y, eta))
        odd[p] = np.float64(_high_size(x, theta)) + np.float64(_high_size(y, eta))


@inline
def _thinned_sizes(base: Any, operand: Any, start: Any, level: Any, keys: Any, even: Any, odd: Any) -> None:
    """The same of the elements that a Drop keeps."""
    lowest = word(start >> 1)
    key, middle = xor(keys[start >> 33, 0], right(lowest, S16)), keys[start >> 33, 1]
    for p in range(HALF // 2):
        q = p + HALF // 2
        x, y, theta, eta = load(operand, p), load(operand, q), load(base, p), load(base, q)
        here, there = spread(add(lowest, word(p)), key, middle), spread(add(lowest, word(q)), key, middle)
        one = _low_size(x, theta) if xor(here, left(here, S16)) >= level else NAUGHT
        other = _low_size(y, eta) if xor(there, left(there, S16)) >= level else NAUGHT
        even[p] = np.float64(one) + np.float64(other)
        one = _high_size(x, theta) if here >= level else NAUGHT
        other = _high_size(y, eta) if there >= level else NAUGHT
        odd[p] = np.float64(one) + np.float64(other)


@inline
def _low_size(x: Any, theta: Any) -> Any:
    return abs(low_number(BF16, x) - low_number(BF16, theta))


@inline
def _high_size(x: Any, theta: Any) -> Any:
    return abs(high_number(BF16, x) - high_number(BF16, theta))


@inline
def _multiply(a: Any, b: Any, even: Any, odd: Any) -> None:
    """The first halving of the products."""
    quarter = HALF // 2
    for p in range(quarter):
        even[p] = np.float64(a[p]) * np.float64(b[p]) + np.float64(a[p + quarter]) * np.float64(b[p + quarter])
    for p in range(HALF, HALF + quarter):
        odd[p - HALF] = np.float64(a[p]) * np.float64(b[p]) + np.float64(a[p + quarter]) * np.float64(b[p + quarter])


@inline
def _halved(terms: Any) -> Any:
    """The sum of HALF / 2 terms, halves on halves; they are overwritten."""
    width = HALF // 4
    while width:
        for p in range(width):
            terms[p] += terms[width + p]
        width //= 2
    return terms[0]
