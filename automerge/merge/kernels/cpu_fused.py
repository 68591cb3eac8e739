"""The fast path: from the weights to the merged words, specialised to a Shape. Import it late.

Two neighbouring 16-bit elements travel as one 32-bit word from the load to the checksum. A block takes three loops: it
draws the random lanes, merges, and adds up the checksum, with what the next loop reads in the first-level cache. Each
is short enough for a core to have several vectors under way; as one loop it would wait for each vector's long chain of
operations to end. All three fetch for a later block, each another part of what it needs, so that memory is busy
throughout; the merged words go past the cache, which would read what they replace. What is done to a vector is staged,
and so written for the shape alone.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import types

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_places import MOST, SUMS, Sums, end_sums, enter_sums, last_sums, start_sums
from automerge.merge.kernels.cpu_staged import ANY, LITERAL, Value, staged, words
from automerge.merge.kernels.cpu_table import DROP, F16, LANES, PAIRS, Shape
from automerge.merge.kernels.cpu_terms import Term, merged
from automerge.merge.kernels.cpu_vectors import counted, fence, fetch, lanes_of, load, store, store_past
from automerge.merge.kernels.cpu_words import S16, ZERO, both, inline, right, word
from automerge.merge.kernels.cpu_words import load as load_word

AHEAD = 3 * PAIRS  # words from the vector that is worked on to the one that is fetched

_word, _long = types.uint32, types.int64


@cache
def fused(shape: Shape) -> Any:
    """The compiled function (tables, first chunk, end, found): writes the chunks, and their sums (see `cpu.run`)."""
    # numba keeps a function by the values it closes over: plain numbers only
    spec, terms, kind, drawn = shape.number, shape.terms, shape.kind, shape.mask == DROP

    @compiled()
    def run_chunks(tables, begin, end, found):  # type: ignore[no-untyped-def]
        buffer = np.empty((terms + 1) * PAIRS, np.uint32)
        lanes = np.int64(buffer.ctypes.data)
        made = lanes + 4 * terms * PAIRS
        for chunk in range(begin, end):
            job, local, flat, length = tables.chunks[chunk]
            place = tables.jobs[job]
            key = place[6] + (flat >> 33) * terms
            base, out = place[0] + 2 * local, place[1] + 2 * local
            operands = read_terms(spec, tables, place[4], key, local)
            scalars = (tables.scalars[job, 0], tables.scalars[job, 2])
            total = np.int64(0)
            placed = np.int64(0)
            pair, words = flat >> 1, length // 2
            whole = words - words % LANES
            aligned = out % (4 * LANES) == 0
            seen = fill(ZERO)
            for span in range(0, whole, MOST * LANES):
                stop = min(span + MOST * LANES, whole)
                sums = start_sums(word(pair + span))
                for block in range(span, stop, PAIRS):
                    last = min(block + PAIRS, stop)
                    if drawn:
                        pairs = counted_from(word(pair + block))
                        for i in range(block, last, LANES):
                            pairs = draw(spec, operands, pairs, right(word(pair + block), S16), lanes, i - block)
                            fetch_words(base, i + AHEAD)
                    at = made - 4 * block if aligned else out
                    for i in range(block, last, LANES):
                        merge(spec, operands, scalars, base, at, i, lanes - 4 * block)
                    for i in range(block, last, LANES):
                        seen, sums = add_up(spec, operands, seen, sums, at, i)
                        if aligned:
                            move_past(at, out, i)
                partial, places = end_sums(sums, (stop - span) // LANES)
                total += partial
                placed += 2 * places + (2 * (pair + span) + 1) * partial
            if whole < words:  # one more vector, which lies partly on the one before
                i = words - LANES
                if drawn:
                    draw(spec, operands, counted_from(word(pair + i)), right(word(pair + i), S16), lanes, 0)
                merge(spec, operands, scalars, base, out, i, lanes - 4 * i)
                seen = see(seen, out, i)
                partial, places = last_sums(out, i, word(pair + i), whole - i)
                total += partial
                placed += 2 * places + (2 * (pair + i) + 1) * partial
            found[chunk, 0] = total
            found[chunk, 1] = placed
            found[chunk, 2] = suspicious(kind, seen) and not_finite(kind, out, words)
        settle(ZERO)
        buffer[0] = ZERO  # it lives until here: numba does not know that its address is in use

    return run_chunks


_NUMBERS = (types.int64, *[types.float32] * 4, *[types.uint32] * 3)  # of a Term


@staged(lambda number: types.Tuple(_NUMBERS * Shape.of(number).terms), LITERAL, ANY, _long, _long, _long)
def read_terms(number: int, tables: Any, first: Value, key: Value, local: Value) -> tuple[Value, ...]:
    """The numbers of all terms of a job, the first of which is the `first`-th; of elements from `local` on."""
    shape, found = Shape.of(number), []
    for t in range(shape.terms):
        at = first + t
        level = tables.level(at)
        found += [
            tables.address(at) + local * (4 if shape.deltas else 2),
            *(column(at) for column in (tables.factor, tables.weight, tables.low, tables.high)),
            level | level >> 16,
            *(column(key + t) for column in (tables.key, tables.middle)),
        ]
    return tuple(found)


def _terms(numbers: tuple[Value, ...]) -> list[Term]:
    each = len(_NUMBERS)
    return [Term(*numbers[start : start + each]) for start in range(0, len(numbers), each)]


fill = staged(words, _word)(lambda x: x.fill())
see = staged(words, words, _long, _long)(lambda seen, out, i: seen | load(out, i))
counted_from = staged(words, _word)(counted)
fetch_words = staged(types.void, _long, _long)(fetch)
settle = staged(types.void, _word)(fence)
move_past = staged(types.void, _long, _long, _long)(lambda made, out, i: store_past(out, i, load(made, i)))


@staged(words, LITERAL, ANY, words, _word, _long, _long)
def draw(number: int, operands: Any, pairs: Value, upper: Value, lanes: Value, index: Value) -> Value:
    """Writes the random lanes of such pairs, whose numbers share the upper half, to the index-th word of each term's
    buffer; and gives the numbers of the next pairs."""
    for t, term in enumerate(_terms(operands)):
        store(lanes, index + t * PAIRS, lanes_of(pairs, (term.key ^ upper).fill(), term.middle.fill()))
    return pairs + LANES


@staged(types.void, LITERAL, ANY, ANY, _long, _long, _long, _long)
def merge(number: int, operands: Any, scalars: Any, base: Value, out: Value, i: Value, lanes: Value) -> None:
    """Writes a vector of merged pairs, the i-th and on."""
    shape, terms = Shape.of(number), _terms(operands)
    if shape.mask != DROP:
        fetch(base, i + AHEAD)
    _fetch(shape, terms[(shape.terms + 1) // 2 :], i + AHEAD)
    store(out, i, merged(shape, terms, scalars, base, i, lanes))


@staged(types.Tuple((words, SUMS)), LITERAL, ANY, words, SUMS, _long, _long)
def add_up(number: int, operands: Any, seen: Value, sums: Sums, made: Value, i: Value) -> tuple[Value, Sums]:
    """With a vector that has been merged: the bits that were seen, and the checksum's sums."""
    shape, found = Shape.of(number), load(made, i)
    _fetch(shape, _terms(operands)[: (shape.terms + 1) // 2], i + AHEAD)
    return seen | found, enter_sums(sums, found)


def _fetch(shape: Shape, terms: list[Term], index: Value) -> None:
    """The vector of pairs at `index` of such terms."""
    lines = 2 if shape.deltas else 1
    for term in terms:
        for line in range(lines):
            fetch(term.address, index * lines + line * LANES)


@staged(types.boolean, LITERAL, words)
def suspicious(kind: int, seen: Value) -> Value:
    """Whether the bits of many words, or-ed, leave room for an exponent of ones: all but never for real weights."""
    ones = 0x7C00 if kind == F16 else 0x7F80
    every = seen.lane(0)
    for i in range(1, LANES):
        every |= seen.lane(i)
    return (every & ones).equals(ones) | (every >> 16 & ones).equals(ones)


@inline
def not_finite(kind: Any, at: Any, words: Any) -> Any:
    """Whether one of 2 · `words` 16-bit numbers is infinite or none."""
    ones = np.uint32(0x7C00 if kind == F16 else 0x7F80)
    found = False
    for i in range(words):
        x = load_word(at, i)
        found |= both(x, ones) == ones or both(right(x, S16), ones) == ones
    return found
