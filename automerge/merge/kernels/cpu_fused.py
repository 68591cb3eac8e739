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
from automerge.merge.kernels.cpu_table import AGREED, BAND, DIVIDED, DROP, ELECT, F16, FLOOR, Shape
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
    left,
    load,
    load_number,
    low_number,
    number,
    right,
    rounded_pair,
    spread,
    store,
    sum_words,
    word,
    xor,
)

PAIRS = 512  # a block, in words


@cache
def fused(shape: Shape) -> Any:
    """The compiled function (tables, first chunk, end, sums): writes the chunks, and their sums (see `cpu.run`)."""
    # numba keeps a function by the values it closes over: plain numbers only
    terms, kind, deltas, weights, mask = shape.terms, shape.kind, shape.deltas, shape.weights, shape.mask
    finish, based = shape.finish, shape.base
    rounds = 2 if finish in (ELECT, AGREED) else 1
    # the divisor of a sum of nothing: lost in any sum of such weights, and 0 ÷ it is 0
    certain, nobody = shape.certain, np.float32(1.1754944e-38 if shape.certain else 0.0)

    @compiled()
    def run_chunks(tables, begin, end, sums):  # type: ignore[no-untyped-def]
        hashes = np.empty(PAIRS, np.int32)
        for chunk in range(begin, end):
            job, local, flat, length = tables.chunks[chunk]
            place = tables.jobs[job]
            first = place[4]
            key = place[6] + (flat >> 33) * terms
            base, out = place[0] + 2 * local, place[1] + 2 * local
            size = 4 if deltas else 2
            address = to_fixed_tuple(tables.address[first : first + terms], terms)
            factors = to_fixed_tuple(tables.factor[first : first + terms], terms)
            shares = to_fixed_tuple(tables.weight[first : first + terms], terms)
            lows = to_fixed_tuple(tables.low[first : first + terms], terms)
            highs = to_fixed_tuple(tables.high[first : first + terms], terms)
            levels = to_fixed_tuple(tables.level[first : first + terms], terms)
            keys = to_fixed_tuple(tables.key[key : key + terms], terms)
            middles = to_fixed_tuple(tables.middle[key : key + terms], terms)
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
                    low, high = NAUGHT, NAUGHT
                    share_low, share_high = nobody, nobody
                    sign_low, sign_high = ZERO, ZERO
                    for turn in range(rounds):
                        if turn == 1:
                            sign_low, sign_high = both(bits(low), SIGN), both(bits(high), SIGN)
                            low, high = NAUGHT, NAUGHT
                        for t in range(terms):
                            if deltas:
                                place_low = (address[t] + size * local, 2 * (block + i))
                                o_low = load_number(place_low[0], place_low[1])
                                o_high = load_number(place_low[0], place_low[1] + 1)
                                if weights:
                                    o_low, o_high = o_low + theta_low, o_high + theta_high
                            else:
                                x = load(address[t] + size * local, block + i)
                                o_low, o_high = low_number(kind, x), high_number(kind, x)
                                if not weights:
                                    o_low, o_high = o_low - theta_low, o_high - theta_high
                            c_low, c_high = factors[t] * o_low, factors[t] * o_high
                            if mask == DROP:
                                y = spread(step, xor(keys[t], upper), middles[t])
                                c_low = c_low if xor(y, left(y, S16)) >= levels[t] else NAUGHT
                                c_high = c_high if y >= levels[t] else NAUGHT
                            elif mask == FLOOR:
                                c_low = NAUGHT if abs(o_low) < lows[t] else c_low
                                c_high = NAUGHT if abs(o_high) < lows[t] else c_high
                            elif mask == BAND:
                                c_low = NAUGHT if abs(o_low) < lows[t] or abs(o_low) > highs[t] else c_low
                                c_high = NAUGHT if abs(o_high) < lows[t] or abs(o_high) > highs[t] else c_high
                            if turn == 1:
                                # of the elected sign: above zero once the sign is taken off; what is no number stays.
                                # A sum is never -0, so leaving it alone is adding +0
                                a_low, a_high = number(xor(bits(c_low), sign_low)), number(xor(bits(c_high), sign_high))
                                low = low if a_low <= NAUGHT else low + c_low
                                high = high if a_high <= NAUGHT else high + c_high
                                if finish == AGREED:
                                    share_low = share_low if a_low <= NAUGHT else share_low + shares[t]
                                    share_high = share_high if a_high <= NAUGHT else share_high + shares[t]
                            elif rounds == 2 and t == 0:  # a sum of nothing but -0 elects a sign that no term has
                                low, high = c_low, c_high
                            else:
                                low += c_low
                                high += c_high
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
            sums[chunk, 0] = total
            sums[chunk, 1] = placed
            sums[chunk, 2] = fault

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
