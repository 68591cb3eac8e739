"""checksum.py's two sums of vectors of words that follow each other, in staged code. Import it late.

Of the hashes t, and of their upper halves, the sum and the sum of these sums are kept: the second weights each vector
by its distance from the last. That is additions of 32 bits, LANES at once, and no multiplication; the lower halves'
sums follow from the two. At most MOST vectors are added up so, as 32 bits hold no more.
"""

from numba import types

from automerge.merge.kernels.cpu_staged import Value, staged, words
from automerge.merge.kernels.cpu_table import LANES
from automerge.merge.kernels.cpu_vectors import counted, hashed, load, long
from automerge.merge.kernels.cpu_words import STEP

MOST = 256
Sums = tuple[Value, Value, Value, Value, Value]  # the next vector's key; Σ t, its sums; Σ of upper halves, its sums

SUMS, _PAIR = types.UniTuple(words, 5), types.UniTuple(types.int64, 2)


@staged(SUMS, types.uint32)
def start_sums(first: Value) -> Sums:
    """Of no vector yet; the first word to come is the tensor's `first`-th."""
    key = counted(first) * int(STEP)
    none = key.other(0)
    return key, none, none, none, none


def enter_sums(sums: Sums, merged: Value) -> Sums:
    """With the next vector of words."""
    key, whole, wholes, upper, uppers = sums
    t = hashed(merged ^ key)
    whole, upper = whole + t, upper + t.shifted_signed(16)
    return key + (LANES * int(STEP) & 0xFFFFFFFF), whole, wholes + whole, upper, uppers + upper


@staged(_PAIR, SUMS, types.int64)
def end_sums(sums: Sums, vectors: Value) -> tuple[Value, Value]:
    """(Σ t, Σ t · l) of so many vectors, l = 0 for the first word."""
    _, whole, wholes, upper, uppers = sums
    total = places = vectors.other(0)
    for i in range(LANES):
        here = _joined(whole.lane(i), upper.lane(i))
        # each vector as often as vectors came from it on
        ahead = _joined(wholes.lane(i), uppers.lane(i))
        total += here
        places += (vectors * here - ahead) * LANES + here * i
    return total, places


def _joined(whole: Value, upper: Value) -> Value:
    """The sum of which `whole` is the lower 32 bits, and `upper` that of the upper halves."""
    shifted = long(upper, signed=True) << 16
    return shifted + ((long(whole) - shifted) & 0xFFFFFFFF)


@staged(_PAIR, types.int64, types.int64, types.uint32, types.int64)
def last_sums(at: Value, index: Value, first: Value, skipped: Value) -> tuple[Value, Value]:
    """(Σ t, Σ t · l) of the vector at a word of the output but for its first `skipped` lanes; l = 0 for its first lane,
    the tensor's `first`-th word."""
    t = hashed(load(at, index) ^ counted(first) * int(STEP))
    total = places = skipped.other(0)
    for i in range(LANES):
        here = (skipped <= i).where(long(t.lane(i), signed=True), 0)
        total += here
        places += here * i
    return total, places
