"""Plain values ↔ bytes: all that crosses a sandbox's wall. It runs on both sides and imports nothing heavy.

A value is a sequence of lines, each a tag and its content; a container's line gives the number of its values, which
follow. None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, deque,
Counter, OrderedDict, defaultdict (of a built-in type), a dict's views, Decimal, Fraction, date, time, datetime and
timedelta cross. A subclass that compares as its base does crosses as its base (a namedtuple as a tuple); an iterator
crosses as an iterator over its values. Everything else becomes an `Opaque`, which equals nothing: an object's own
__eq__ is never called on the other side. It has a number, by which the side that has the object finds it again.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would take as long as all the rest of the start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 100
MAX_VALUES = 200_000
MAX_HASHED = 10_000  # in all sets and dicts together: chosen keys can make a larger table take minutes to build
MAX_INT_BITS = 120_000
MAX_EXPONENT = 1000  # of a Decimal: int() of a larger one takes gigabytes


class NotPlain(Exception):
    """A value is too large or too deep to cross, or bytes are no value."""


class Opaque:
    """Stands for an object that does not cross: its type's name, whether it was true, its number where it is (-1: it
    cannot be reached)."""

    def __init__(self, kind: str, true: bool, number: int = -1) -> None:
        self.kind = kind
        self.true = true
        self.number = number

    def __bool__(self) -> bool:
        return self.true

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


_BASES: tuple[type, ...] = (int, str, float, list, tuple, dict, set, frozenset, complex, bytes, bytearray)
_COUNTED = {list: "l", tuple: "t", set: "S", frozenset: "z", dict: "d"}
_TABLES = {"Counter": "C", "OrderedDict": "O"}
_FACTORIES = {kind.__name__: kind for kind in (int, str, float, bool, list, tuple, dict, set, frozenset)}
_MOMENTS = ("date", "time", "datetime")


def encode(value: Any, keep: Callable[[Any], int] = lambda value: -1, exact: bool = False) -> bytes:
    """The value's bytes; `keep` gives the number of an object that is not plain, or raises NotPlain. Raises NotPlain
    where the value is too large or too deep (a structure that holds itself is). `exact`: a defaultdict of the caller's
    own function is not plain; else it crosses as the dict it equals."""
    writer = _Writer(keep, exact)
    writer.put(value, 0)
    return b"".join(writer.out)


def decode(data: bytes, find: Callable[[Opaque], Any] = lambda opaque: opaque) -> Any:
    """The value of these bytes, which may come from an enemy; `find` gives what stands for an opaque object. Raises
    NotPlain."""
    if len(data) > MAX_BYTES:
        raise NotPlain(f"larger than {MAX_BYTES} bytes")
    reader = _Reader(data, find)
    try:
        value = reader.take(0)
    except (ValueError, TypeError, ArithmeticError, IndexError, KeyError) as error:
        raise NotPlain(f"not a value: {type(error).__name__}") from None
    if reader.at != len(data):
        raise NotPlain("something follows the value")
    return value


def _loaded(module: str, name: str) -> Any:
    """A class of the standard library, if its module is loaded: else no value can be of it."""
    return getattr(sys.modules.get(module), name, None)


def _base(cls: type) -> type | None:
    """The plain type that values of `cls` compare as."""
    if cls in _BASES:
        return cls
    if any(cls is _loaded("collections", name) for name in (*_TABLES, "defaultdict")):
        return None
    for base in _BASES:
        if issubclass(cls, base):
            same = all(getattr(cls, name) is getattr(base, name) for name in ("__eq__", "__ne__"))
            return base if same else None
    return None


class _Writer:
    def __init__(self, keep: Callable[[Any], int], exact: bool) -> None:
        self.keep = keep
        self.exact = exact
        self.out: list[bytes] = []
        self.size = 0
        self.values = 0

    def line(self, text: str) -> None:
        self.raw(text.encode() + b"\n")

    def raw(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > MAX_BYTES:
            raise NotPlain(f"a value larger than {MAX_BYTES} bytes")
        self.out.append(data)

    def put(self, value: Any, depth: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            raise NotPlain(f"a value with more than {MAX_VALUES} parts or {MAX_DEPTH} levels")
        cls = type(value)
        if value is None or cls is bool:
            self.line("N" if value is None else "T" if value else "F")
            return
        base = _base(cls)
        if base is None:
            self._other(value, cls, depth)
        elif base in _COUNTED:
            self.line(f"{_COUNTED[base]}{base.__len__(value)}")  # type: ignore[attr-defined]
            for part in dict.items(value) if base is dict else base.__iter__(value):  # type: ignore[attr-defined]
                if base is dict:
                    self.put(part[0], depth + 1)
                    self.put(part[1], depth + 1)
                else:
                    self.put(part, depth + 1)
        else:
            self._scalar(value, base)

    def _scalar(self, value: Any, base: type) -> None:
        if base is int:
            if int.bit_length(value) > MAX_INT_BITS:
                raise NotPlain(f"an integer of more than {MAX_INT_BITS} bits")
            self.line("i" + int.__format__(value, "x"))
        elif base is str:
            self._bytes("s", str.encode(value, "utf-8", "surrogatepass"))
        elif base is float:
            self.line("f" + float.__repr__(value))
        elif base is complex:
            real, imaginary = complex.real.__get__(value), complex.imag.__get__(value)
            self.line(f"c{float.__repr__(real)} {float.__repr__(imaginary)}")
        else:
            self._bytes("b" if base is bytes else "B", b"".join((value,)))

    def _bytes(self, tag: str, data: bytes) -> None:
        self.line(f"{tag}{len(data)}")
        self.raw(data + b"\n")

    def _other(self, value: Any, cls: type, depth: int) -> None:
        if cls is range and len(value) <= MAX_VALUES:
            self.line(f"r{value.start} {value.stop} {value.step}")
        elif cls is _loaded("collections", "deque"):
            self.line(f"q{len(value)}")
            for part in value:
                self.put(part, depth + 1)
        elif cls is _loaded("decimal", "Decimal") and (not value.is_finite() or abs(value.adjusted()) < MAX_EXPONENT):
            self.line(f"D{value}")
        elif cls is _loaded("fractions", "Fraction"):
            self.line("R")
            self.put(value.numerator, depth + 1)
            self.put(value.denominator, depth + 1)
        elif issubclass(cls, (type({}.keys()), type({}.values()), type({}.items()))):
            self.line("k" if issubclass(cls, type({}.keys())) else "v" if issubclass(cls, type({}.values())) else "m")
            self.put(list(value), depth + 1)
        elif any(cls is _loaded("collections", name) for name in _TABLES):
            self._table(f"{_TABLES[cls.__name__]}{len(value)}", value, depth)
        elif cls is _loaded("collections", "defaultdict"):
            made = next((name for name, kind in _FACTORIES.items() if kind is value.default_factory), "")
            if made or value.default_factory is None:
                self._table(f"e{len(value)} {made}", value, depth)
            elif self.exact:
                raise NotPlain("a defaultdict object of a function")
            else:
                self._table(f"d{len(value)}", value, depth)
        elif any(cls is _loaded("datetime", name) for name in _MOMENTS) and self._moment(value):
            self.line(f"w{cls.__name__} {value.isoformat()}")
        elif cls is _loaded("datetime", "timedelta"):
            self.line(f"w{cls.__name__} {value.days} {value.seconds} {value.microseconds}")
        elif cls.__module__ in ("builtins", "itertools") and hasattr(cls, "__next__"):
            self.line("I")
            self.put(self._collected(value), depth + 1)
        elif issubclass(cls, Opaque):
            self.line(f"o{'T' if value.true else 'F'}{value.number} {value.kind}")
        else:
            kind = "".join(letter for letter in str(cls.__name__)[:100] if letter.isidentifier() or letter.isdecimal())
            self.line(f"o{'T' if value else 'F'}{self.keep(value)} {kind if kind.isascii() else '?'}")

    def _table(self, line: str, value: Any, depth: int) -> None:
        self.line(line)
        for key, part in value.items():
            self.put(key, depth + 1)
            self.put(part, depth + 1)

    def _moment(self, value: Any) -> bool:
        """Whether its text says all of it: its time zone, if it has one, is no more than an offset."""
        zone = getattr(value, "tzinfo", None)
        return zone is None or type(zone) is _loaded("datetime", "timezone")

    def _collected(self, iterator: Any) -> list[Any]:
        parts: list[Any] = []
        for part in iterator:
            parts.append(part)
            if len(parts) > MAX_VALUES:
                raise NotPlain(f"an iterator of more than {MAX_VALUES} values")
        return parts


class _Reader:
    def __init__(self, data: bytes, find: Callable[[Opaque], Any]) -> None:
        self.find = find
        self.data = data
        self.at = 0
        self.values = 0
        self.hashed = 0

    def take(self, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES + 1000:
            raise NotPlain("too many values")
        end = self.data.index(b"\n", self.at)
        tag, text = self.data[self.at : self.at + 1], self.data[self.at + 1 : end].decode("ascii")
        self.at = end + 1
        if tag in b"NTF" and tag and not text:
            return {b"N": None, b"T": True, b"F": False}[tag]
        if tag == b"i":
            return self._int(text)
        if tag in b"sbB":
            return self._bytes(tag, int(text))
        if tag in b"ltSzqdCOekvmI":
            return self._many(tag, text, depth)
        return self._other(tag, text, depth)

    def _int(self, text: str) -> int:
        if len(text) > MAX_INT_BITS // 4 + 2:
            raise NotPlain("an integer that is too long")
        return int(text, 16)

    def _bytes(self, tag: bytes, size: int) -> str | bytes | bytearray:
        data = self.data[self.at : self.at + size]
        if size < 0 or len(data) != size or self.data[self.at + size : self.at + size + 1] != b"\n":
            raise NotPlain("a string that is cut off")
        self.at += size + 1
        return data.decode("utf-8", "surrogatepass") if tag == b"s" else data if tag == b"b" else bytearray(data)

    def _many(self, tag: bytes, text: str, depth: int) -> Any:
        if tag in b"kvmI":
            return self._view(tag, self.take(depth + 1))
        number, _, factory = text.partition(" ")
        count = int(number)
        if not 0 <= count <= len(self.data):
            raise NotPlain("a count that cannot be")
        if tag in b"SzdCOe":
            self._count(count)
        if tag in b"dCOe":
            found = self._empty(tag, factory)
            for _ in range(count):
                key = self.take(depth + 1)
                found[key] = self.take(depth + 1)
            return found
        parts = [self.take(depth + 1) for _ in range(count)]
        if tag == b"q":
            from collections import deque

            return deque(parts)
        return parts if tag == b"l" else {b"t": tuple, b"S": set, b"z": frozenset}[tag](parts)

    def _view(self, tag: bytes, parts: Any) -> Any:
        if type(parts) is not list:
            raise NotPlain("an iterator without a list")
        if tag in b"km":
            self._count(len(parts))
        if tag == b"m":
            if any(type(part) is not tuple or len(part) != 2 for part in parts):
                raise NotPlain("items that are no pairs")
            return dict(parts).items()
        if tag == b"k":
            return dict.fromkeys(parts).keys()
        return dict(enumerate(parts)).values() if tag == b"v" else iter(parts)

    def _empty(self, tag: bytes, factory: str) -> dict[Any, Any]:
        if tag == b"d":
            return {}
        import collections

        if tag == b"e":
            return collections.defaultdict(_FACTORIES[factory] if factory else None)
        return collections.Counter() if tag == b"C" else collections.OrderedDict()

    def _count(self, more: int) -> None:
        self.hashed += more
        if self.hashed > MAX_HASHED:
            raise NotPlain(f"sets and dicts of more than {MAX_HASHED} values")

    def _other(self, tag: bytes, text: str, depth: int) -> Any:
        if len(text) > 4 * MAX_EXPONENT:
            raise NotPlain("a number that is too long")
        if tag == b"f":
            return float(text)
        if tag == b"c":
            real, imaginary = text.split(" ")
            return complex(float(real), float(imaginary))
        if tag == b"r":
            found = range(*map(int, text.split(" ")))
            if len(found) > MAX_VALUES:  # list() of it, outside, would take all memory
                raise NotPlain("a range that is too long")
            return found
        if tag == b"o" and text[:1] in ("T", "F"):
            number, kind = text[1:].split(" ")
            return self.find(Opaque(kind, text[0] == "T", int(number)))
        if tag == b"D":
            from decimal import Decimal

            decimal = Decimal(text)
            if decimal.is_finite() and abs(decimal.adjusted()) >= MAX_EXPONENT:
                raise NotPlain("a Decimal that is too large")
            return decimal
        if tag == b"R":
            from fractions import Fraction

            above, below = self.take(depth + 1), self.take(depth + 1)
            if type(above) is not int or type(below) is not int:
                raise NotPlain("a fraction of no integers")
            return Fraction(above, below)
        if tag == b"w":
            return self._time(*text.split(" "))
        raise NotPlain("an unknown tag")

    def _time(self, kind: str, *parts: str) -> Any:
        import datetime

        if kind == "timedelta":
            return datetime.timedelta(*map(int, parts))
        if kind not in _MOMENTS or len(parts) != 1:
            raise NotPlain("no moment")
        return getattr(datetime, kind).fromisoformat(parts[0])
