"""Small expressions over plain values, worked out without `eval`: what an assert does with what a call returned.

Literals, comparisons, and/or/not, arithmetic on numbers, dates and sequences, `text % values`, subscripts, and a few
functions that only look at their arguments. Sizes are bounded, because a value may come from an enemy: what is
multiplied stays small, no powers are taken of what was returned.
"""

import ast
import datetime
import math
import operator
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Set
from numbers import Number
from typing import Any

from automerge.evals.sandbox.plain import MAX_BYTES, MAX_HASHED, MAX_VALUES, Opaque

MAX_POWER = 1000  # of an exponent in a test's own text
MAX_DIGITS = 100  # of round()
MAX_FORMAT = 10_000  # characters of the text before a %

_LONG = (str, bytes, bytearray)
_JOINED = (*_LONG, list, tuple, deque, Counter)
_TIMES = (datetime.date, datetime.time, datetime.datetime, datetime.timedelta)
_FORMAT = re.compile(r"(?:[^%]|%[-+ #0]*\d{0,3}(?:\.\d{1,3})?[a-zA-Z%])*+")


class Unsupported(Exception):
    """The expression is none of these."""


class Unanswerable(Exception):
    """Two objects that are not plain would have to be asked about each other: no verdict can be formed here."""


def _sized(kind: Callable[[Any], Any]) -> Callable[..., Any]:
    """set(), dict(): building a table from chosen keys takes quadratic time."""

    def build(*values: Any) -> Any:
        values = tuple(list(value) if hasattr(value, "__next__") else value for value in values)
        if any(hasattr(value, "__len__") and len(value) > MAX_HASHED for value in values):
            raise ValueError(f"more than {MAX_HASHED} values for a {kind}")
        return kind(*values)

    return build


def _round(number: Any, digits: Any = None) -> Any:
    if digits is not None and (not isinstance(digits, int) or abs(digits) > MAX_DIGITS):
        raise ValueError("digits out of range")
    return round(number, digits)


def _sum(values: Any) -> Any:
    return sum(_numbers(*values))


def _numbers(*values: Any) -> tuple[Any, ...]:
    if any(not isinstance(value, Number) for value in values):
        raise TypeError("expected numbers")
    return values


def _calculated(op: ast.operator, left: Any, right: Any) -> Any:
    """`left op right`. Raises TypeError, as Python does, for operands that do not go together, ValueError where it
    would take too much, and Unanswerable for two objects that are not plain."""
    kinds = (type(left), type(right))
    if kinds == (Opaque, Opaque):
        raise Unanswerable(f"{left} and {right} are calculated with")
    joined = kinds[0] is kinds[1] and kinds[0] in _JOINED and isinstance(op, ast.Add)
    counted = kinds == (Counter, Counter) and isinstance(op, ast.Sub)
    sets = isinstance(left, Set) and isinstance(right, Set) and isinstance(op, ast.Sub)
    times = kinds[0] in _TIMES and kinds[1] in _TIMES and isinstance(op, ast.Add | ast.Sub)
    if isinstance(op, ast.Mult) and any(kind in (*_LONG, list, tuple) for kind in kinds):
        return _repeated(*((right, left) if isinstance(left, int) else (left, right)))
    if isinstance(op, ast.Mod) and type(left) is str:
        if len(left) > MAX_FORMAT or not _FORMAT.fullmatch(left):
            raise ValueError("a format of this kind is not followed")
        return left % right
    operands = (left, right) if joined or counted or sets or times else _numbers(left, right)
    return _ARITHMETIC[type(op)](*operands)


def _repeated(values: Any, times: Any) -> Any:
    if not isinstance(times, int):
        raise TypeError("a sequence is multiplied by something that is no integer")
    # The text of a list is at least as long as what its parts hold, which the product holds again and again.
    size = len(values) if isinstance(values, _LONG) else len(repr(values))
    if size * max(times, 0) > 4 * MAX_BYTES:
        raise ValueError("too large a product")
    return values * times


def _whole(value: Any) -> bool:
    """Whether nothing in a value stands for an object that did not cross."""
    rest = [value]
    for _ in range(MAX_VALUES):
        if not rest:
            break
        part = rest.pop()
        if type(part) is Opaque or part is ...:
            return False
        if isinstance(part, dict):
            rest += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset | deque):
            rest += part
    return True


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{kind.__name__: kind for kind in (len, list, tuple, sorted, min, max, abs, int, float, str, bool, all, any)},
    **{kind.__name__: _sized(kind) for kind in (set, frozenset, dict)},
    "round": _round,
    "sum": _sum,
    "complex": complex,
    **{f"math.{name}": getattr(math, name) for name in ("isclose", "fabs", "floor", "ceil", "sqrt", "isnan")},
}
CONSTANTS: Mapping[str, float] = {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf, "math.nan": math.nan}

_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of names and attributes, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := dotted(node.value)):
        return f"{start}.{node.attr}"
    return ""


def check_supported(node: ast.expr, slots: Mapping[str, Any]) -> None:
    """Raises Unsupported where `work_out` would, whatever the slots' values."""
    if isinstance(node, ast.Call):
        if dotted(node.func) not in FUNCTIONS or any(isinstance(part, ast.Starred) for part in node.args):
            raise Unsupported(ast.unparse(node))
        parts: list[ast.expr] = [*node.args, *(word.value for word in node.keywords if word.arg)]
        if any(word.arg in (None, "key", "default") for word in node.keywords):
            raise Unsupported(ast.unparse(node))
    elif isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
        identity = any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
        if identity and not any(isinstance(part, ast.Constant) and part.value in (None, True, False) for part in parts):
            raise Unsupported("identity of values that were copied")
    elif isinstance(node, ast.BinOp):
        if type(node.op) not in _ARITHMETIC:
            raise Unsupported(ast.unparse(node))
        if isinstance(node.op, ast.Pow) and not (
            isinstance(node.left, ast.Constant)
            and isinstance(node.right, ast.Constant)
            and isinstance(node.right.value, int)
            and abs(node.right.value) <= MAX_POWER
        ):
            raise Unsupported("a power of a value")
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        parts = [node.operand]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = node.elts
    elif isinstance(node, ast.Dict):
        if None in node.keys:
            raise Unsupported("a dict that unpacks another")
        parts = [part for pair in zip(node.keys, node.values, strict=True) for part in pair if part is not None]
    elif isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        parts = [node.value, node.slice]
    elif isinstance(node, ast.Constant) or dotted(node) in CONSTANTS or dotted(node) in slots:
        parts = []
    else:
        raise Unsupported(ast.unparse(node))
    for part in parts:
        check_supported(part, slots)


def work_out(node: ast.expr, slots: Mapping[str, Any]) -> Any:
    """The value of a supported expression; `slots` are its names. Raises what the same Python would, and
    Unanswerable."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return slots[node.id]
    if isinstance(node, ast.Attribute):
        return CONSTANTS[dotted(node)]
    if isinstance(node, ast.Call):
        named = {word.arg: work_out(word.value, slots) for word in node.keywords if word.arg}
        return FUNCTIONS[dotted(node.func)](*(work_out(part, slots) for part in node.args), **named)
    if isinstance(node, ast.Compare):
        return _compared(node, slots)
    if isinstance(node, ast.BoolOp):
        value: Any = None
        for part in node.values:
            value = work_out(part, slots)
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value
    if isinstance(node, ast.UnaryOp):
        value = work_out(node.operand, slots)
        return _UNARY[type(node.op)](value)
    if isinstance(node, ast.BinOp):
        return _calculated(node.op, work_out(node.left, slots), work_out(node.right, slots))
    if isinstance(node, ast.Subscript):
        return work_out(node.value, slots)[work_out(node.slice, slots)]
    if isinstance(node, ast.Dict):
        keys = [work_out(key, slots) for key in node.keys if key is not None]
        return dict(zip(keys, (work_out(value, slots) for value in node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = [work_out(part, slots) for part in node.elts]
        return parts if isinstance(node, ast.List) else tuple(parts) if isinstance(node, ast.Tuple) else set(parts)
    raise Unsupported(ast.unparse(node))


def _compared(node: ast.Compare, slots: Mapping[str, Any]) -> Any:
    left, result = work_out(node.left, slots), True
    for op, part in zip(node.ops, node.comparators, strict=True):
        right = work_out(part, slots)
        # An object that is not plain equals nothing plain; another such object it may equal.
        if not isinstance(op, ast.Is | ast.IsNot) and not _whole(left) and not _whole(right):
            raise Unanswerable("objects that are not plain are compared with each other")
        result = _COMPARE[type(op)](left, right)
        if not result:
            break
        left = right
    return result
