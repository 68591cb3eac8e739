"""The fast path: one loop from the weights to the merged words, specialised to a Shape. Import it late.

Two neighbouring 16-bit elements travel as one 32-bit word from the load to the checksum, so that no lane is ever
widened; a block's words are hashed right after, out of the first-level cache. The maths is plan.py's, operation for
operation: `low` and `high` are the two elements. Loops over terms have a constant length and are unrolled.
"""

from functools import cache
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_table import AGREED, DIVIDED, ELECT, F16, Shape
from automerge.merge.kernels.cpu_terms import every_term
from automerge.merge.kernels.cpu_words import (
    NAUGHT,
    S16,
    SIGN,
    TINY,
    UNIT,
    ZERO,
    add,
    bits,
    both,
    either,
    high_number,
    inline,
    load,
    low_number,
    right,
    rounded_pair,
    store,
    sum_words,
    word,
)

PAIRS = 512  # a block, in words


@cache
def fused(shape: Shape) -> Any:
    """The compiled function (tables, first chunk, end, found): writes the chunks, and their sums (see `cpu.run`)."""
    # numba keeps a function by the values it closes over: plain numbers only
    terms, kind, finish, based = shape.terms, shape.kind, shape.finish, shape.base
    elect = finish in (ELECT, AGREED)
    numbers = (kind, shape.deltas, shape.weights, shape.mask, finish == AGREED)
    size = 4 if shape.deltas else 2
    # a sum that elects is of the terms alone: nothing but -0 elects a sign that no term has
    start = np.float32(-0.0 if elect else 0.0)
    # the divisor of a sum of nothing: lost in any sum of such weights, and 0 ÷ it is 0
    certain, nobody = shape.certain, np.float32(1.1754944e-38 if shape.certain else 0.0)

    @compiled()
    def run_chunks(tables, begin, end, found):  # type: ignore[no-untyped-def]
        hashes = np.empty(PAIRS, np.int32)
        for chunk in range(begin, end):
            job, local, flat, length = tables.chunks[chunk]
            place = tables.jobs[job]
            first = place[4]
            key = place[6] + (flat >> 33) * terms
            base, out = place[0] + 2 * local, place[1] + 2 * local
            operands = (
                to_fixed_tuple(tables.address[first : first + terms] + size * local, terms),
                to_fixed_tuple(tables.factor[first : first + terms], terms),
                to_fixed_tuple(tables.weight[first : first + terms], terms),
                to_fixed_tuple(tables.low[first : first + terms], terms),
                to_fixed_tuple(tables.high[first : first + terms], terms),
                to_fixed_tuple(tables.level[first : first + terms], terms),
                to_fixed_tuple(tables.level[first : first + terms] >> S16, terms),
                to_fixed_tuple(tables.key[key : key + terms], terms),
                to_fixed_tuple(tables.middle[key : key + terms], terms),
            )
            unrolled = operands[0]
            divisor, scale = tables.scalars[job, 0], tables.scalars[job, 2]
            total = np.int64(0)
            placed = np.int64(0)
            fault = False
            for block in range(0, length // 2, PAIRS):
                count = min(PAIRS, length // 2 - block)
                pair = (flat >> 1) + block
                lowest = word(pair)
                upper = right(lowest, S16)
                seen = ZERO
                for i in range(count):
                    step = add(lowest, word(i))
                    theta = load(base, block + i)
                    theta_low, theta_high = low_number(kind, theta), high_number(kind, theta)
                    hashing, thetas = (step, upper), (theta_low, theta_high)
                    sums = (start, start, nobody, nobody, ZERO, ZERO)
                    sums = every_term(unrolled, numbers, operands, 0, block + i, hashing, thetas, sums)
                    if elect:
                        signs = both(bits(sums[0]), SIGN), both(bits(sums[1]), SIGN)
                        sums = (NAUGHT, NAUGHT, nobody, nobody, signs[0], signs[1])
                        sums = every_term(unrolled, numbers, operands, 1, block + i, hashing, thetas, sums)
                    low, high, share_low, share_high = sums[0], sums[1], sums[2], sums[3]
                    if finish == DIVIDED:
                        low, high = low / divisor, high / divisor
                    elif finish == AGREED:
                        if not certain:
                            share_low = UNIT if abs(share_low) < TINY else share_low
                            share_high = UNIT if abs(share_high) < TINY else share_high
                        low, high = low / share_low, high / share_high
                    low, high = scale * low, scale * high
                    if based:
                        low, high = theta_low + low, theta_high + high
                    merged = rounded_pair(kind, bits(low), bits(high))
                    seen = either(seen, merged)
                    store(out, block + i, merged)
                fault |= suspicious(kind, seen) and not_finite(kind, out + 4 * block, count)
                partial, places = sum_words(out + 4 * block, count, pair, hashes)
                total += partial
                placed += 2 * places + (2 * pair + 1) * partial
            found[chunk, 0] = total
            found[chunk, 1] = placed
            found[chunk, 2] = fault

    return run_chunks


@inline
def suspicious(kind: Any, seen: Any) -> Any:
    """Whether the bits of many words, or-ed, leave room for an exponent of ones: all but never for real weights."""
    ones = np.uint32(0x7C00 if kind == F16 else 0x7F80)
    return both(seen, ones) == ones or both(right(seen, S16), ones) == ones


@inline
def not_finite(kind: Any, at: Any, words: Any) -> Any:
    """Whether one of 2 · `words` 16-bit numbers is infinite or none."""
    ones = np.uint32(0x7C00 if kind == F16 else 0x7F80)
    found = False
    for i in range(words):
        x = load(at, i)
        found |= both(x, ones) == ones or both(right(x, S16), ones) == ones
    return found
