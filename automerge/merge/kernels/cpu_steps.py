"""The general path: any mix of formats and masks, any number of terms, step by step over small fp32 buffers.

A block's buffers hold P pairs of neighbouring elements: first the P elements of even flat index, then the P of odd
index. A chunk that begins at an odd element, or ends behind an even one, has a half pair there; its other half is
computed as zeros and never stored. The maths is plan.py's, operation for operation. Import it late.
"""

import numpy as np

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_table import AGREED, BAND, BF16, DIVIDED, DROP, ELECT, F16, F32, FLOOR, RANKED
from automerge.merge.kernels.cpu_words import (
    HIGH,
    LOW,
    MAGNITUDE,
    NAUGHT,
    S16,
    SIGN,
    STEP,
    TINY,
    UNIT,
    add,
    bits,
    both,
    from_f16,
    hashed,
    inline,
    left,
    load,
    load_half,
    load_number,
    mul,
    number,
    right,
    round_up,
    rounded_pair,
    spread,
    store,
    store_half,
    sum_words,
    to_f16,
    word,
    xor,
)

PAIRS = 512  # a block


@compiled()
def run_chunks(tables, begin, end, sums):  # type: ignore[no-untyped-def]
    """Writes the chunks first … end − 1, and their sums (see `cpu.run`)."""
    most = 0
    for chunk in range(begin, end):
        most = max(most, tables.jobs[tables.chunks[chunk, 0], 5])
    theta = np.empty(2 * PAIRS, np.float32)
    result = np.empty(2 * PAIRS, np.float32)
    shares = np.empty(2 * PAIRS, np.float32)
    parts = np.empty((most, 2 * PAIRS), np.float32)
    hashes = np.empty(2 * PAIRS, np.int32)
    for chunk in range(begin, end):
        job, local, flat, length = tables.chunks[chunk]
        total = np.int64(0)
        placed = np.int64(0)
        fault = False
        done = 0
        while done < length:
            head = (flat + done) & 1  # only ever at a chunk's first block
            count = min(2 * PAIRS - head, length - done)
            _merge(tables, job, local + done, flat + done, count, theta, result, shares, parts)
            kind, at = tables.jobs[job, 3], tables.jobs[job, 1]
            fault |= _write(kind, at, local + done, head, count, result)
            if kind == F32:
                first, words, at = flat + done, count, at + 4 * (local + done)
            else:
                first, words, at = (flat + done) >> 1, count // 2, at + 2 * (local + done)
            partial, places = sum_words(at, words, first, hashes)
            if kind != F32 and count & 1:  # the tensor's last element, a word of its own
                term = np.int64(np.int32(hashed(xor(load_half(at, 2 * words), mul(word(first + words), STEP)))))
                partial += term
                places += term * words
            total += partial
            placed += 2 * places + (2 * first + 1) * partial
            done += count
        sums[chunk, 0] = total
        sums[chunk, 1] = placed
        sums[chunk, 2] = fault


@inline
def _merge(tables, job, local, flat, count, theta, result, shares, parts):  # type: ignore[no-untyped-def]
    """The merged values of `count` elements, in fp32, in `result`."""
    place = tables.jobs[job]
    first, terms, finish, weights = place[4], place[5], place[7] & 3, place[7] >> 2 == 1
    head = flat & 1
    pairs = (head + count + 1) // 2
    key = place[6] + (flat >> 33) * terms
    _read(place[2], place[0], local, head, count, theta)
    n = 2 * pairs
    for t in range(terms):
        part = parts[t]
        _read(tables.kind[first + t], tables.address[first + t], local, head, count, part)
        if weights and tables.delta[first + t]:
            for i in range(n):
                part[i] += theta[i]
        elif not weights and not tables.delta[first + t]:
            for i in range(n):
                part[i] -= theta[i]
        _scale(tables, first + t, key + t, local, flat >> 1, head, count, part)
    for i in range(n):
        result[i] = NAUGHT
    for t in range(terms):
        part = parts[t]
        for i in range(n):
            result[i] += part[i]
    if finish in (ELECT, AGREED):
        _elect(tables, first, terms, n, finish == AGREED, result, shares, parts)
    elif finish == DIVIDED:
        divisor = tables.scalars[job, 0]
        for i in range(n):
            result[i] /= divisor
    share, scale = tables.scalars[job, 1], tables.scalars[job, 2]
    if tables.based[job]:
        for i in range(n):
            result[i] = share * theta[i] + scale * result[i]
    else:
        for i in range(n):
            result[i] *= scale


@inline
def _read(kind, at, local, head, count, values):  # type: ignore[no-untyped-def]
    """fp32 of the elements local … local + count − 1, pairs laid apart; the other half of a half pair is 0."""
    pairs, whole = (head + count + 1) // 2, (head + count) // 2
    size = 4 if kind == F32 else 2
    at += size * (local - head)
    values[0] = NAUGHT
    values[2 * pairs - 1] = NAUGHT
    if kind == F32:
        for p in range(head, whole):
            values[p] = load_number(at, 2 * p)
            values[pairs + p] = load_number(at, 2 * p + 1)
    elif kind == BF16:
        for p in range(head, whole):
            pair = load(at, p)
            values[p] = number(left(pair, S16))
            values[pairs + p] = number(both(pair, HIGH))
    else:
        for p in range(head, whole):
            pair = load(at, p)
            values[p] = from_f16(both(pair, LOW))
            values[pairs + p] = from_f16(right(pair, S16))
    if head:
        values[pairs] = _read_one(kind, at, 1)
    if whole < pairs:
        values[pairs - 1] = _read_one(kind, at, 2 * whole)


@inline
def _read_one(kind, at, index):  # type: ignore[no-untyped-def]
    if kind == F32:
        return load_number(at, index)
    half = load_half(at, index)
    return number(left(half, S16)) if kind == BF16 else from_f16(half)


@inline
def _scale(tables, term, key, local, first, head, count, part):  # type: ignore[no-untyped-def]
    """The operands become contributions: scaled, or +0.0 where they are masked. `first` is the first pair's number."""
    pairs = (head + count + 1) // 2
    factor, mask = tables.factor[term], tables.mask[term]
    if mask == RANKED:
        _scale_ranked(tables, term, key, local, first, head, count, part)
    elif mask == DROP:
        lowest, level = word(first), tables.level[term]
        start, middle = xor(tables.key[key], right(lowest, S16)), tables.middle[key]
        for p in range(pairs):
            y = spread(add(lowest, word(p)), start, middle)
            part[p] = factor * part[p] if xor(y, left(y, S16)) >= level else NAUGHT
            part[pairs + p] = factor * part[pairs + p] if y >= level else NAUGHT
    elif mask in (FLOOR, BAND):
        low, high = tables.low[term], tables.high[term]
        for i in range(2 * pairs):
            size = abs(part[i])
            part[i] = NAUGHT if size < low or size > high else factor * part[i]
    else:
        for i in range(2 * pairs):
            part[i] *= factor


@inline
def _scale_ranked(tables, term, key, local, first, head, count, part):  # type: ignore[no-untyped-def]
    ranks, levels, factors = tables.ranked[term]
    pairs = (head + count + 1) // 2
    lowest = word(first)
    start, middle = xor(tables.key[key], right(lowest, S16)), tables.middle[key]
    for p in range(pairs):
        y = spread(add(lowest, word(p)), start, middle)
        for odd in range(2):
            element = 2 * p + odd - head
            if 0 <= element < count:
                rank = np.int64(load_half(ranks, local + element))
                lane = right(y if odd else xor(y, left(y, S16)), S16)
                keep = lane >= load(levels, rank)
                i = pairs * odd + p
                part[i] = part[i] * load_number(factors, rank) if keep else NAUGHT


@inline
def _elect(tables, first, terms, n, divide, result, shares, parts):  # type: ignore[no-untyped-def]
    """Sums anew what has the sign of the sum; ÷ the sum of the weights of those with `divide`."""
    for i in range(n):
        shares[i] = NAUGHT
    for t in range(terms):
        part, weight = parts[t], tables.weight[first + t]
        for i in range(n):
            # of the elected sign: above zero once the sign is taken off; a number that is none stays
            agrees = not number(xor(bits(part[i]), both(bits(result[i]), SIGN))) <= NAUGHT
            part[i] = part[i] if agrees else NAUGHT
            shares[i] += weight if agrees else NAUGHT
    for i in range(n):
        result[i] = NAUGHT
    for t in range(terms):
        part = parts[t]
        for i in range(n):
            result[i] += part[i]
    if divide:
        for i in range(n):
            result[i] /= UNIT if abs(shares[i]) < TINY else shares[i]


@inline
def _write(kind, at, local, head, count, values):  # type: ignore[no-untyped-def]
    """Rounds the values and stores them; returns whether one is not finite in the format."""
    pairs, whole = (head + count + 1) // 2, (head + count) // 2
    largest = np.uint32(0)
    for i in range(2 * pairs):
        largest = max(largest, both(bits(values[i]), MAGNITUDE))
    if kind == F32:
        at += 4 * (local - head)
        for p in range(head, whole):
            store(at, 2 * p, bits(values[p]))
            store(at, 2 * p + 1, bits(values[pairs + p]))
    else:
        at += 2 * (local - head)
        if kind == BF16:
            for p in range(head, whole):
                store(at, p, rounded_pair(BF16, bits(values[p]), bits(values[pairs + p])))
        else:
            for p in range(head, whole):
                store(at, p, rounded_pair(F16, bits(values[p]), bits(values[pairs + p])))
    if head:
        _write_one(kind, at, 1, values[pairs])
    if whole < pairs:
        _write_one(kind, at, 2 * whole, values[pairs - 1])
    return largest >= np.uint32(0x7F800000 if kind == F32 else 0x7F7F8000 if kind == BF16 else 0x477FF000)


@inline
def _write_one(kind, at, index, value):  # type: ignore[no-untyped-def]
    if kind == F32:
        store(at, index, bits(value))
    elif kind == BF16:
        store_half(at, index, right(round_up(bits(value)), S16))
    else:
        store_half(at, index, to_f16(bits(value)))
