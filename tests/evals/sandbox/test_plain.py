"""What crosses the wall, what becomes opaque, and what is refused."""

import collections
import contextlib
import datetime
import enum
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automerge.evals.sandbox import plain
from automerge.evals.sandbox.plain import NotPlain, Opaque, decode, encode

keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
scalars = keys | st.complex_numbers(allow_nan=False) | st.fractions()
values = st.recursive(
    scalars | st.binary().map(bytearray) | st.sets(keys) | st.frozensets(keys),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@given(values)
def test_plain_values_cross_unchanged(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_decode_or_be_refused(data: bytes) -> None:
    with contextlib.suppress(NotPlain):
        decode(data)


@given(values, st.data())
def test_nor_do_bytes_that_were_a_value(value: Any, data: st.DataObject) -> None:
    good = bytearray(encode(value))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotPlain):
        decode(bytes(good))


class Two(enum.IntEnum):
    TWO = 2


Point = collections.namedtuple("Point", "x y")


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    ("value", "crosses"),
    [
        (Point(1, 2), (1, 2)),
        (Two.TWO, 2),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.OrderedDict(a=1).items(), {("a", 1)}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.defaultdict(lambda: 1, a=[1]), {"a": [1]}),
        (collections.deque([1, 2]), collections.deque([1, 2])),
        (Decimal("1.50"), Decimal("1.5")),
        (Fraction(1, 3), Fraction(1, 3)),
        (range(1, 9, 2), range(1, 9, 2)),
        ({1: 2}.keys(), {1}),
        ({1: [2]}.items(), {1: [2]}.items()),
        (datetime.timedelta(-1, 5, 7), datetime.timedelta(-1, 5, 7)),
        (datetime.time(1, 2, 3, 4), datetime.time(1, 2, 3, 4)),
        (datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC), datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC)),
        (float("inf"), float("inf")),
        ("\ud800", "\ud800"),
        (-(2**70), -(2**70)),
    ],
)
def test_what_compares_as_a_plain_value_crosses_as_one(value: Any, crosses: Any) -> None:
    assert decode(encode(value)) == crosses


@pytest.mark.parametrize(
    "value",
    [
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(int, a=1),
        collections.defaultdict(None, a=1),
        datetime.date(2020, 1, 2),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    ],
)
def test_tables_and_dates_cross_as_what_they_are(value: Any) -> None:
    found = decode(encode(value))
    assert type(found) is type(value) and found == value
    assert getattr(found, "default_factory", None) is getattr(value, "default_factory", None)


def test_a_defaultdict_of_a_function_is_a_dict_or_refused() -> None:
    value = collections.defaultdict(lambda: 1)
    assert type(decode(encode(value))) is dict
    with pytest.raises(NotPlain):
        encode(value, exact=True)


def test_an_iterator_crosses_as_an_iterator() -> None:
    for iterator in ((n for n in range(3)), map(int, "012"), iter([0, 1, 2]), {0: 1}.values()):
        found = decode(encode(iterator))
        assert found != [0, 1, 2] and len(list(found)) in (1, 3)


def test_nan_stays_unequal_to_itself() -> None:
    assert decode(encode(math.nan)) != math.nan


@pytest.mark.parametrize("value", [Liar(5), object(), len, int, [Liar(5)], type("S", (str,), {"__ne__": len})("5")])
def test_other_objects_become_opaque_and_equal_nothing(value: Any) -> None:
    found = decode(encode(value))
    found = found[0] if isinstance(found, list) else found
    assert isinstance(found, Opaque) and found != 5 and found != "5" and bool(found) == bool(value)
    assert found.number == -1


def test_an_opaque_object_is_found_again_by_its_number() -> None:
    kept: list[object] = [object(), object()]
    there = decode(encode([kept[1]], keep=kept.index))
    assert decode(encode(there), find=lambda opaque: kept[opaque.number]) == [kept[1]]


def test_what_is_too_large_or_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep, endless, "x" * (plain.MAX_BYTES + 1), [0] * 300_000, 1 << 200_000, iter(int, 1)):
        with pytest.raises(NotPlain):
            encode(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"N",
        b"Nx\n",
        b"i1\ni2\n",
        b"l2\ni1\n",
        b"l999999999\n",
        b"s5\nab\n",
        b"s-1\n\n",
        b"S1\nl0\n",
        b"d1\nl0\nN\n",
        b"z20000\n" + b"i1\n" * 20000,
        b"i" + b"f" * 100_000 + b"\n",
        b"D1e999999999\n",
        b"R\ni1\ni0\n",
        b"R\nf1\ni2\n",
        b"I\nN\n",
        b"l1\n" * 5000,
        b"?\n",
        b"r0 5 0\n",
        b"r0 999999999 1\n",
        b"oT1\n",
        b"m\nl1\ni1\n",
        b"m\nl1\nt2\nl0\nN\n",
        b"e0 eval\n",
        b"e0 Opaque\n",
        b"C20000\n" + b"i1\ni1\n" * 20000,
        b"wdate 2020-13-01\n",
        b"wtimedelta 999999999999 0 0\n",
        b"wtimezone 1\n",
        b"wdatetime\n",
        b"ox0 A\n",
        b"s2\n\xff\xff\n",
    ],
)
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(NotPlain):
        decode(data)
