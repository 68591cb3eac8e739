"""What the terms of a job make of a pair of elements, in compiled code. Import it late.

The loop over terms is unrolled by the types, not left to LLVM: it unrolls short loops only, and where it does not, the
loop over pairs around it is not turned into vectors, and takes ten times as long.
"""

from typing import Any

from numba.extending import overload

from automerge.merge.kernels.cpu_table import BAND, DROP, FLOOR, PAIRS
from automerge.merge.kernels.cpu_vectors import (
    bits,
    both,
    fill,
    fill_numbers,
    high_numbers,
    left,
    load,
    load_even,
    load_odd,
    low_numbers,
    minus,
    number,
    plus,
    reached,
    right_signed,
    times,
    where_above,
    where_below,
    where_most,
    xor,
)
from automerge.merge.kernels.cpu_words import EVERY, MAGNITUDE, NAUGHT, S16, ZERO, inline


def every_term(numbers: Any, shape: Any, terms: Any, turn: Any, i: Any, lanes: Any, theta: Any, sums: Any) -> Any:
    """`sums` with all terms entered in order; `numbers` is a tuple with as many places as there are terms.

    shape: (kind, deltas, weights, mask, agreed), constants, as in cpu_table.Shape. terms: see `enter`.
    turn: 0 adds all up, 1 (after an election) those of the elected sign. i: the vector's first pair, counted in 32-bit
    words from the operands' addresses. lanes: where the random lanes of pair 0 would be, were they drawn from there on;
    a term's lie PAIRS words behind those of the one before. theta: the base's pairs.
    sums: (low, high, weights of low, of high, elected sign of low, of high); in turn 1, low and high lack their sign.
    """
    raise NotImplementedError  # of compiled code alone


@overload(every_term, jit_options={"forceinline": True, "error_model": "numpy"})
def _every_term(numbers, shape, terms, turn, i, lanes, theta, sums):  # type: ignore[no-untyped-def]
    last = len(numbers) - 1
    if last == 0:

        def only(numbers, shape, terms, turn, i, lanes, theta, sums):  # type: ignore[no-untyped-def]
            return enter(0, shape, terms, turn, i, lanes, theta, sums)

        return only

    def chained(numbers, shape, terms, turn, i, lanes, theta, sums):  # type: ignore[no-untyped-def]
        before = every_term(numbers[1:], shape, terms, turn, i, lanes, theta, sums)
        return enter(last, shape, terms, turn, i, lanes, theta, before)

    return chained


@inline
def enter(t: Any, shape: Any, terms: Any, turn: Any, i: Any, lanes: Any, theta: Any, sums: Any) -> Any:
    """`sums` with the t-th term's contribution."""
    kind, deltas, weights, mask, agreed = shape
    address, factor, share, lowest, highest, level = terms
    low, high, share_low, share_high, sign_low, sign_high = sums
    theta_low, theta_high = low_numbers(kind, theta), high_numbers(kind, theta)
    none = fill_numbers(NAUGHT)
    if deltas:
        o_low, o_high = load_even(address[t], i), load_odd(address[t], i)
        if weights:
            o_low, o_high = plus(o_low, theta_low), plus(o_high, theta_high)
    else:
        x = load(address[t], i)
        if mask == DROP:  # what is dropped becomes what adds nothing: 0, or a delta of 0
            x = reached(load(lanes, PAIRS * t + i), fill(level[t]), x, fill(ZERO) if weights else theta)
        o_low, o_high = low_numbers(kind, x), high_numbers(kind, x)
        if not weights:
            o_low, o_high = minus(o_low, theta_low), minus(o_high, theta_high)
    c_low, c_high = times(fill_numbers(factor[t]), o_low), times(fill_numbers(factor[t]), o_high)
    if mask == DROP and deltas:
        kept = reached(load(lanes, PAIRS * t + i), fill(level[t]), fill(EVERY), fill(ZERO))
        c_low = number(both(bits(c_low), right_signed(left(kept, fill(S16)), fill(S16))))
        c_high = number(both(bits(c_high), right_signed(kept, fill(S16))))
    elif mask in (FLOOR, BAND):
        size_low, size_high = number(both(bits(o_low), fill(MAGNITUDE))), number(both(bits(o_high), fill(MAGNITUDE)))
        least = fill_numbers(lowest[t])
        c_low = where_below(size_low, least, none, c_low)
        c_high = where_below(size_high, least, none, c_high)
        if mask == BAND:
            most = fill_numbers(highest[t])
            c_low = where_above(size_low, most, none, c_low)
            c_high = where_above(size_high, most, none, c_high)
    if turn == 0:
        return plus(low, c_low), plus(high, c_high), share_low, share_high, sign_low, sign_high
    # what has the elected sign is above 0 once the sign is taken off; what is no number stays
    a_low, a_high = number(xor(bits(c_low), sign_low)), number(xor(bits(c_high), sign_high))
    if agreed:
        part = fill_numbers(share[t])
        share_low = plus(share_low, where_most(a_low, none, none, part))
        share_high = plus(share_high, where_most(a_high, none, none, part))
    a_low, a_high = where_most(a_low, none, none, a_low), where_most(a_high, none, none, a_high)
    if t > 0:  # the first is added to +0.0, which changes no such number
        a_low, a_high = plus(low, a_low), plus(high, a_high)
    return a_low, a_high, share_low, share_high, sign_low, sign_high
