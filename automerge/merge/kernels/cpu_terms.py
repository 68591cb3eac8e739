"""What the terms of a job make of a vector of pairs, in staged code. Import it late."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from automerge.merge.kernels.cpu_staged import NUMBERS, WORDS, Value
from automerge.merge.kernels.cpu_table import AGREED, BAND, DIVIDED, DROP, ELECT, FLOOR, PAIRS, Shape
from automerge.merge.kernels.cpu_vectors import (
    MAGNITUDE,
    SIGN,
    as_numbers,
    as_pairs,
    load,
    load_numbers,
    where_reached,
)
from automerge.merge.kernels.cpu_words import TINY

SMALLEST = 1.1754944e-38


class Term(NamedTuple):
    """A term's numbers, each one for a whole chunk; see cpu_table.Tables."""

    address: Value
    factor: Value
    weight: Value
    low: Value
    high: Value
    level: Value
    key: Value
    middle: Value


Two = tuple[Value, Value]  # fp32 of the pairs' first elements, and of the second ones


def merged(shape: Shape, terms: list[Term], scalars: Two, base: Value, i: Value, lanes: Value) -> Value:
    """The merged pairs from the i-th on. `lanes`: where the random lanes of pair 0 would be, were they drawn from there
    on; a term's lie PAIRS words behind those of the one before. `scalars`: the plan's divisor and λ. The maths is
    plan.py's, operation for operation."""
    divisor, scale = scalars
    theta = load(base, i)
    under = as_numbers(shape.kind, theta)
    parts = [
        _contribution(shape, term, partial(load, lanes, i + PAIRS * t), i, theta, under) for t, term in enumerate(terms)
    ]
    low, high = (_summed(shape, terms, [part[half] for part in parts]) for half in (0, 1))
    if shape.finish == DIVIDED:
        low, high = low / divisor.fill(), high / divisor.fill()
    if shape.scaled:
        low, high = scale.fill() * low, scale.fill() * high
    if shape.base:
        low, high = under[0] + low, under[1] + high
    return as_pairs(shape.kind, low, high)


def _contribution(shape: Shape, term: Term, lane: Callable[[], Value], i: Value, theta: Value, under: Two) -> Two:
    """What plan.py calls c."""
    if shape.deltas:
        values = load_numbers(term.address, i)
        if shape.weights:
            values = values[0] + under[0], values[1] + under[1]
    else:
        x = load(term.address, i)
        if shape.mask == DROP:  # what is dropped becomes what adds nothing: 0, or a delta of 0
            x = where_reached(lane(), term.level.fill(), x, 0 if shape.weights else theta)
        values = as_numbers(shape.kind, x)
        if not shape.weights:
            values = values[0] - under[0], values[1] - under[1]
    low, high = (term.factor.fill() * value for value in values)
    if shape.mask == DROP and shape.deltas:
        level = term.level.fill()
        kept = where_reached(lane(), level, level.other(0xFFFFFFFF), 0)
        low = (low.bits(WORDS) & (kept << 16).shifted_signed(16)).bits(NUMBERS)
        high = (high.bits(WORDS) & kept.shifted_signed(16)).bits(NUMBERS)
    elif shape.mask in (FLOOR, BAND):
        low, high = (_within(shape, term, *pair) for pair in zip(values, (low, high), strict=True))
    return low, high


def _within(shape: Shape, term: Term, value: Value, part: Value) -> Value:
    """The part where the value's magnitude is not below the term's band, nor above it."""
    size, none = (value.bits(WORDS) & MAGNITUDE).bits(NUMBERS), value.other(0.0)
    part = (size < term.low.fill()).where(none, part)
    return (size > term.high.fill()).where(none, part) if shape.mask == BAND else part


def _summed(shape: Shape, terms: list[Term], parts: list[Value]) -> Value:
    """Their sum; after an election that of the elected ones, ÷ that of their weights where the shape says so."""
    total = parts[0].other(-0.0 if shape.plain else 0.0)
    for part in parts:
        total += part
    if shape.finish not in (ELECT, AGREED):
        return total
    sign, none = total.bits(WORDS) & SIGN, total.other(0.0)
    # the divisor of a sum of nothing: lost in any sum of such weights, and 0 ÷ it is 0
    share = none.other(SMALLEST if shape.certain else 0.0)
    for number, (term, part) in enumerate(zip(terms, parts, strict=True)):
        # what has the elected sign is above 0 once the sign is taken off; what is no number stays
        agreeing = (part.bits(WORDS) ^ sign).bits(NUMBERS)
        against = agreeing <= none
        if shape.finish == AGREED:
            share += against.where(none, term.weight.fill())
        agreeing = against.where(none, agreeing)
        total = total + agreeing if number else agreeing  # the first is added to +0.0, which changes no such number
    total = (total.bits(WORDS) ^ sign).bits(NUMBERS)
    if shape.finish == ELECT:
        return total
    if not shape.certain:
        size = (share.bits(WORDS) & MAGNITUDE).bits(NUMBERS)
        share = (size < float(TINY)).where(share.other(1.0), share)
    return total / share
