"""The fast path: from the weights to the merged words, specialised to a Shape. Import it late.

Two neighbouring 16-bit elements travel as one 32-bit word from the load to the checksum; `low` and `high` are the two.
The maths is plan.py's, operation for operation. A block takes three loops: it draws the random lanes, merges, and adds
up the checksum, with what the next loop reads in the first-level cache. Each is short enough for a core to have several
vectors under way; as one loop it would wait for each vector's long chain of operations to end. All three fetch for a
later block, each another part of what it needs, so that memory is busy throughout. Loops over terms have a constant
length and are unrolled.
"""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_places import MOST, end_sums, enter_sums, last_sums, start_sums
from automerge.merge.kernels.cpu_table import AGREED, DIVIDED, DROP, ELECT, F16, LANES, PAIRS, Shape
from automerge.merge.kernels.cpu_terms import every_term
from automerge.merge.kernels.cpu_vectors import (
    add,
    bits,
    both,
    either,
    fetch,
    fetch_output,
    fill,
    fill_numbers,
    hashed,
    high_numbers,
    lane,
    lanes_of,
    load,
    low_numbers,
    mul,
    number,
    numbered,
    over,
    plus,
    rounded_pairs,
    store,
    times,
    where_below,
    xor,
)
from automerge.merge.kernels.cpu_words import MAGNITUDE, NAUGHT, S16, SIGN, STEP, TINY, UNIT, ZERO, inline, right, word
from automerge.merge.kernels.cpu_words import both as both_words
from automerge.merge.kernels.cpu_words import either as either_words
from automerge.merge.kernels.cpu_words import load as load_word
from automerge.merge.kernels.cpu_words import xor as xor_word

AHEAD = 2 * PAIRS  # words from the vector that is worked on to the one that is fetched
WIDE = np.uint32(LANES)


@cache
def fused(shape: Shape) -> Any:
    """The compiled function (tables, first chunk, end, found): writes the chunks, and their sums (see `cpu.run`)."""
    # numba keeps a function by the values it closes over: plain numbers only
    terms, kind, finish, based = shape.terms, shape.kind, shape.finish, shape.base
    numbers = (kind, shape.deltas, shape.weights, shape.mask, finish == AGREED)
    size = 4 if shape.deltas else 2
    start = np.float32(-0.0 if shape.plain else 0.0)
    # the divisor of a sum of nothing: lost in any sum of such weights, and 0 ÷ it is 0
    certain, nobody = shape.certain, np.float32(1.1754944e-38 if shape.certain else 0.0)
    drawn = shape.mask == DROP
    half = (terms + 1) // 2
    final = (kind, finish, based, certain, shape.scaled, start, nobody)

    @compiled()
    def run_chunks(tables, begin, end, found):  # type: ignore[no-untyped-def]
        buffer = np.empty(terms * PAIRS, np.uint32)
        lanes = np.int64(buffer.ctypes.data)
        for chunk in range(begin, end):
            job, local, flat, length = tables.chunks[chunk]
            place = tables.jobs[job]
            first = place[4]
            key = place[6] + (flat >> 33) * terms
            base, out = place[0] + 2 * local, place[1] + 2 * local
            levels = tables.level[first : first + terms]
            keys = (
                to_fixed_tuple(tables.key[key : key + terms], terms),
                to_fixed_tuple(tables.middle[key : key + terms], terms),
            )
            operands = (
                to_fixed_tuple(tables.address[first : first + terms] + size * local, terms),
                to_fixed_tuple(tables.factor[first : first + terms], terms),
                to_fixed_tuple(tables.weight[first : first + terms], terms),
                to_fixed_tuple(tables.low[first : first + terms], terms),
                to_fixed_tuple(tables.high[first : first + terms], terms),
                to_fixed_tuple(levels | levels >> S16, terms),
            )
            scalars = (tables.scalars[job, 0], tables.scalars[job, 2])
            total = np.int64(0)
            placed = np.int64(0)
            pair, words = flat >> 1, length // 2
            whole = words - words % LANES
            seen = fill(ZERO)
            for span in range(0, whole, MOST * LANES):
                stop = min(span + MOST * LANES, whole)
                sums = start_sums(word(pair + span))
                for block in range(span, stop, PAIRS):
                    last = min(block + PAIRS, stop)
                    if drawn:
                        _draw(keys, terms, pair + block, last - block, lanes, base, block + AHEAD)
                    for i in range(block, last, LANES):
                        if not drawn:
                            fetch(base, i + AHEAD)
                        fetch_output(out, i + AHEAD)
                        _fetch(operands[0], half, terms, i + AHEAD, size)
                        store(out, i, _merge(numbers, final, base, i, lanes - 4 * block, operands, scalars))
                    for i in range(block, last, LANES):
                        merged = load(out, i)
                        _fetch(operands[0], 0, half, i + AHEAD, size)
                        seen = either(seen, merged)
                        sums = enter_sums(sums, merged)
                partial, places = end_sums(sums, (stop - span) // LANES)
                total += partial
                placed += 2 * places + (2 * (pair + span) + 1) * partial
            if whole < words:  # one more vector, which lies partly on the one before
                i = words - LANES
                if drawn:
                    _draw(keys, terms, pair + i, LANES, lanes, base, i)
                merged = _merge(numbers, final, base, i, lanes - 4 * i, operands, scalars)
                store(out, i, merged)
                seen = either(seen, merged)
                hashes = hashed(xor(merged, mul(numbered(word(pair + i)), fill(STEP))))
                partial, places = last_sums(hashes, whole - i)
                total += partial
                placed += 2 * places + (2 * (pair + i) + 1) * partial
            found[chunk, 0] = total
            found[chunk, 1] = placed
            found[chunk, 2] = suspicious(kind, seen) and not_finite(kind, out, words)
        buffer[0] = ZERO  # it lives until here: numba does not know that its address is in use

    return run_chunks


@inline
def _draw(keys: Any, terms: Any, pair: Any, count: Any, lanes: Any, base: Any, ahead: Any) -> None:
    """The random lanes of so many pairs from `pair` on: PAIRS words for each term, its first at the address `lanes`.
    Fetches as much of the base from the word `ahead` on."""
    upper = right(word(pair), S16)
    pairs = numbered(word(pair))
    for i in range(0, count, LANES):
        fetch(base, ahead + i)
        for t in range(terms):
            first, middle = fill(xor_word(keys[0][t], upper)), fill(keys[1][t])
            store(lanes, t * PAIRS + i, lanes_of(pairs, first, middle))
        pairs = add(pairs, fill(WIDE))


@inline
def _fetch(addresses: Any, first: Any, end: Any, index: Any, size: Any) -> None:
    """The vector of pairs at `index` of the terms first … end − 1, of `size` bytes an element."""
    for t in range(first, end):
        for part in range(size // 2):
            fetch(addresses[t], index * (size // 2) + part * LANES)


@inline
def _merge(shape: Any, final: Any, base: Any, i: Any, lanes: Any, operands: Any, scalars: Any) -> Any:
    """A vector of merged pairs, from the i-th on; see cpu_terms.every_term."""
    kind, finish, based, certain, scaled, start, nobody = final
    divisor, scale = scalars
    theta = load(base, i)
    none, starts, shares = fill_numbers(NAUGHT), fill_numbers(start), fill_numbers(nobody)
    sums = (starts, starts, shares, shares, fill(ZERO), fill(ZERO))
    sums = every_term(operands[0], shape, operands, 0, i, lanes, theta, sums)
    if finish in (ELECT, AGREED):
        signs = both(bits(sums[0]), fill(SIGN)), both(bits(sums[1]), fill(SIGN))
        sums = (none, none, shares, shares, signs[0], signs[1])
        sums = every_term(operands[0], shape, operands, 1, i, lanes, theta, sums)
    low, high, share_low, share_high, sign_low, sign_high = sums
    if finish in (ELECT, AGREED):
        low, high = number(xor(bits(low), sign_low)), number(xor(bits(high), sign_high))
    if finish == DIVIDED:
        low, high = over(low, fill_numbers(divisor)), over(high, fill_numbers(divisor))
    elif finish == AGREED:
        if not certain:
            share_low, share_high = _not_tiny(share_low), _not_tiny(share_high)
        low, high = over(low, share_low), over(high, share_high)
    if scaled:
        low, high = times(fill_numbers(scale), low), times(fill_numbers(scale), high)
    if based:
        low, high = plus(low_numbers(kind, theta), low), plus(high_numbers(kind, theta), high)
    return rounded_pairs(kind, bits(low), bits(high))


@inline
def _not_tiny(share: Any) -> Any:
    """A sum of weights, or 1 where it counts as zero."""
    return where_below(number(both(bits(share), fill(MAGNITUDE))), fill_numbers(TINY), fill_numbers(UNIT), share)


@inline
def suspicious(kind: Any, seen: Any) -> Any:
    """Whether the bits of many words, or-ed, leave room for an exponent of ones: all but never for real weights."""
    ones = np.uint32(0x7C00 if kind == F16 else 0x7F80)
    every = ZERO
    for i in range(LANES):
        every = either_words(every, lane(seen, i))
    return both_words(every, ones) == ones or both_words(right(every, S16), ones) == ones


@inline
def not_finite(kind: Any, at: Any, words: Any) -> Any:
    """Whether one of 2 · `words` 16-bit numbers is infinite or none."""
    ones = np.uint32(0x7C00 if kind == F16 else 0x7F80)
    found = False
    for i in range(words):
        x = load_word(at, i)
        found |= both_words(x, ones) == ones or both_words(right(x, S16), ones) == ones
    return found
