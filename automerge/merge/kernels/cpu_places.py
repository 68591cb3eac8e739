"""checksum.py's two sums of vectors of words that follow each other, in compiled code. Import it late.

Of the hashes t, and of their upper halves, the sum and the sum of these sums are kept: the second weights each vector
by its distance from the last. That is additions of 32 bits, LANES at once, and no multiplication; the lower halves'
sums follow from the two. At most MOST vectors are added up so, as 32 bits hold no more.
"""

from typing import Any

import numpy as np

from automerge.merge.kernels.cpu_table import LANES
from automerge.merge.kernels.cpu_vectors import add, fill, hashed, lane, mul, numbered, right_signed, xor
from automerge.merge.kernels.cpu_words import S16, STEP, ZERO, inline

MOST = 256
STRIDE = np.uint32(LANES * int(STEP) & 0xFFFFFFFF)


@inline
def start_sums(first: Any) -> Any:
    """Of no vector yet; the first word to come is the tensor's `first`-th."""
    none = fill(ZERO)
    return mul(numbered(first), fill(STEP)), none, none, none, none


@inline
def enter_sums(sums: Any, merged: Any) -> Any:
    """With the next vector of words."""
    key, whole, wholes, upper, uppers = sums
    t = hashed(xor(merged, key))
    whole = add(whole, t)
    upper = add(upper, right_signed(t, fill(S16)))
    return (
        add(key, fill(STRIDE)),
        whole,
        add(wholes, whole),
        upper,
        add(uppers, upper),
    )


@inline
def end_sums(sums: Any, vectors: Any) -> Any:
    """(Σ t, Σ t · l) of so many vectors, l = 0 for the first word."""
    _, whole, wholes, upper, uppers = sums
    total, places = np.int64(0), np.int64(0)
    for i in range(LANES):
        here = _joined(lane(whole, i), lane(upper, i))
        # each vector as often as vectors came from it on
        ahead = _joined(lane(wholes, i), lane(uppers, i))
        total += here
        places += LANES * (vectors * here - ahead) + i * here
    return total, places


@inline
def _joined(whole: Any, upper: Any) -> Any:
    """The sum of which `whole` is the lower 32 bits, and `upper` that of the upper halves."""
    signed = np.int64(np.int32(upper))
    return (signed << 16) + ((np.int64(whole) - (signed << 16)) & 0xFFFFFFFF)


@inline
def last_sums(t: Any, skipped: Any) -> Any:
    """(Σ t, Σ t · l) of a vector of hashes but for its first `skipped` lanes; l = 0 for its first lane."""
    total, places = np.int64(0), np.int64(0)
    for i in range(skipped, LANES):
        here = np.int64(np.int32(lane(t, i)))
        total += here
        places += here * i
    return total, places
