"""What the terms of a job make of a pair of elements, in compiled code. Import it late.

The loop over terms is unrolled by the types, not left to LLVM: it unrolls short loops only, and where it does not, the
loop over pairs around it is not turned into vectors, and takes ten times as long.
"""

from typing import Any

from numba.extending import overload

from automerge.merge.kernels.cpu_table import BAND, DROP, FLOOR
from automerge.merge.kernels.cpu_words import (
    LOW,
    NAUGHT,
    S16,
    bits,
    both,
    high_number,
    inline,
    load,
    load_number,
    low_number,
    number,
    right,
    spread,
    xor,
)


def every_term(numbers: Any, shape: Any, terms: Any, turn: Any, i: Any, hashing: Any, theta: Any, sums: Any) -> Any:
    """`sums` with all terms entered in order; `numbers` is a tuple with as many places as there are terms.

    shape: (kind, deltas, weights, mask, agreed), constants, as in cpu_table.Shape. terms: see `enter`.
    turn: 0 adds all up, 1 (after an election) those of the elected sign. i: the pair, counted in 32-bit words from the
    operands' addresses. hashing: the pair's number, its upper half. theta: of both elements.
    sums: (low, high, weights of low, of high, elected sign of low, of high).
    """
    raise NotImplementedError  # of compiled code alone


@overload(every_term, jit_options={"forceinline": True, "error_model": "numpy"})
def _every_term(numbers, shape, terms, turn, i, hashing, theta, sums):  # type: ignore[no-untyped-def]
    last = len(numbers) - 1
    if last == 0:

        def only(numbers, shape, terms, turn, i, hashing, theta, sums):  # type: ignore[no-untyped-def]
            return enter(0, shape, terms, turn, i, hashing, theta, sums)

        return only

    def chained(numbers, shape, terms, turn, i, hashing, theta, sums):  # type: ignore[no-untyped-def]
        before = every_term(numbers[1:], shape, terms, turn, i, hashing, theta, sums)
        return enter(last, shape, terms, turn, i, hashing, theta, before)

    return chained


@inline
def enter(t: Any, shape: Any, terms: Any, turn: Any, i: Any, hashing: Any, theta: Any, sums: Any) -> Any:
    """`sums` with the t-th term's contribution."""
    kind, deltas, weights, mask, agreed = shape
    address, factor, share, lowest, highest, level, half, key, middle = terms
    theta_low, theta_high = theta
    low, high, share_low, share_high, sign_low, sign_high = sums
    if deltas:
        o_low, o_high = load_number(address[t], 2 * i), load_number(address[t], 2 * i + 1)
        if weights:
            o_low, o_high = o_low + theta_low, o_high + theta_high
    else:
        x = load(address[t], i)
        o_low, o_high = low_number(kind, x), high_number(kind, x)
        if not weights:
            o_low, o_high = o_low - theta_low, o_high - theta_high
    c_low, c_high = factor[t] * o_low, factor[t] * o_high
    if mask == DROP:
        y = spread(hashing[0], xor(key[t], hashing[1]), middle[t])
        # not y << 16 against the level: LLVM would multiply once more
        c_low = c_low if both(xor(y, right(y, S16)), LOW) >= half[t] else NAUGHT
        c_high = c_high if y >= level[t] else NAUGHT
    elif mask == FLOOR:
        c_low = NAUGHT if abs(o_low) < lowest[t] else c_low
        c_high = NAUGHT if abs(o_high) < lowest[t] else c_high
    elif mask == BAND:
        c_low = NAUGHT if abs(o_low) < lowest[t] or abs(o_low) > highest[t] else c_low
        c_high = NAUGHT if abs(o_high) < lowest[t] or abs(o_high) > highest[t] else c_high
    if turn == 0:
        return low + c_low, high + c_high, share_low, share_high, sign_low, sign_high
    # of the elected sign: above zero once the sign is taken off; what is no number stays. A sum is never -0, so
    # leaving it alone is adding +0
    a_low, a_high = number(xor(bits(c_low), sign_low)), number(xor(bits(c_high), sign_high))
    low = low if a_low <= NAUGHT else low + c_low
    high = high if a_high <= NAUGHT else high + c_high
    if agreed:
        share_low = share_low if a_low <= NAUGHT else share_low + share[t]
        share_high = share_high if a_high <= NAUGHT else share_high + share[t]
    return low, high, share_low, share_high, sign_low, sign_high
