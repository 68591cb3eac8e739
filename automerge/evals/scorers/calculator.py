"""A calculator for the equations a text writes: "3 + 4 * 2 = 10" gives 11, whatever the text says it is.

Small models set up the right equation and then get the arithmetic wrong; GSM8K's authors score with a calculator for
that reason. Exact (fractions), with + - * / × ÷ and parentheses, x between numbers, commas in numbers, $ and %, and
GSM8K's <<…>> marks. No powers, no names, no eval. It knows no targets and no scores.

    expression = term   { ("+" | "-") term }
    term       = factor { ("*" | "/") factor | "(" expression ")" }
    factor     = "-" factor | "(" expression ")" | number ["%"]
"""

import itertools
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from automerge.evals.scorers.numbers import plain

MAX_TOKENS = 64  # of one expression; a longer one is not what a word problem asks for
MAX_DIGITS = 30  # of one number
MOST_TAIL = 10_000  # characters, from the last, where the last equation is looked for

_LEXEME = re.compile(
    r"""(?P<arithmetic> \d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)? | \d+\.?\d* | \.\d+ | [-+*/()%] )
      | (?P<equals> (?<![<>!=:])=(?![=>]) | ≈ )
      | (?P<other> \S | \n )""",
    re.VERBOSE,
)
_TIMES = re.compile(r"(?<=[\d).%])[ ]*(?:[×·✕∙]|\\times|[xX])[ ]*(?=[\d(.$-])")
_OVER = re.compile(r"÷|\\div")
_BULLET = re.compile(r"(?m)^[ \t]*(?:[-*•]|\d+[.)])[ \t]+")


class NotAnExpression(Exception):
    """The tokens are no arithmetic expression."""


@dataclass(frozen=True)
class Equation:
    """An expression as written, and its exact value; `value` None means it divides by zero."""

    text: str
    value: Fraction | None


def first_equation(text: str) -> Equation | None:
    """The first arithmetic expression, with at least one operator, that stands beside an equals sign. None: no such."""
    return next(_equations(text), None)


def last_equation(text: str) -> Equation | None:
    """The last such expression."""
    return next(iter(deque(_equations(text[-MOST_TAIL:]), maxlen=1)), None)


def _equations(text: str) -> Iterator[Equation]:
    """Of each sign, the side before is tried first ("3 + 4 = 7"), then the one after it ("total = 3 + 4")."""
    text = _OVER.sub("/", _TIMES.sub("*", plain(text)))
    text = text.replace("$", "").replace("**", "^").replace("<<", "\n").replace(">>", "\n")
    lexemes = list(_LEXEME.finditer(_BULLET.sub("", text)))
    run: list[str] = []  # the arithmetic just read
    before = ""  # what stood before it
    for index, lexeme in enumerate(lexemes):
        if lexeme["arithmetic"]:
            run.append(lexeme[0])
            continue
        if lexeme["equals"]:
            found = _ending(run, after_word=before.isalpha()) or _starting(lexemes[index + 1 : index + 2 + MAX_TOKENS])
            if found is not None:
                yield found
        run, before = [], lexeme[0]


def _ending(run: list[str], after_word: bool) -> Equation | None:
    """The longest expression that a run of arithmetic ends with, if nothing before it belongs to it too."""
    if len(run) > MAX_TOKENS:
        return None
    for start, token in enumerate(run):
        previous = run[start - 1] if start else ""
        # An operand that is a word ("apples + 3 = 8") cannot be left out of the sum.
        if token in ("+", "*", "/") or (token == "-" and (start or after_word)) or previous in ("+", "-", "*", "/"):
            continue
        if previous == "(" and start > 1:
            continue
        found = _equation(run[start:])
        if found is not None:
            return found
    return None


def _starting(lexemes: list[re.Match[str]]) -> Equation | None:
    """The expression that the text goes on with, up to the first thing that is not arithmetic."""
    return _equation([lexeme[0] for lexeme in itertools.takewhile(lambda lexeme: lexeme["arithmetic"], lexemes)])


def _equation(tokens: list[str]) -> Equation | None:
    if len(tokens) > MAX_TOKENS or any(len(token) > MAX_DIGITS for token in tokens):
        return None
    parser = _Parser(tokens)
    text = " ".join(tokens)
    try:
        value = parser.expression()
    except NotAnExpression:
        return None
    except ZeroDivisionError:
        return Equation(text, None)
    if parser.at != len(tokens) or not parser.operators:
        return None
    return Equation(text, value)


class _Parser:
    """Recursive descent over at most MAX_TOKENS tokens, so its depth is bounded too."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.operators = 0

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self.at += 1
        return token

    def expression(self) -> Fraction:
        value = self._term()
        while self._next() in ("+", "-"):
            self.operators += 1
            value = value + self._term() if self._take() == "+" else value - self._term()
        return value

    def _term(self) -> Fraction:
        value = self._factor()
        while self._next() in ("*", "/", "("):
            self.operators += 1
            over = self._next() != "(" and self._take() == "/"  # 2(3 + 4) multiplies
            value = value / self._factor() if over else value * self._factor()
        return value

    def _factor(self) -> Fraction:
        token = self._take()
        if token == "-":
            return -self._factor()
        if token == "(":
            value = self.expression()
            if self._take() != ")":
                raise NotAnExpression("a parenthesis is not closed")
        elif token and token[0] in "0123456789.":
            value = Fraction(token.replace(",", "").removesuffix("."))
        else:
            raise NotAnExpression(f"expected a number, got {token!r}")
        if self._next() == "%":
            self._take()
            return value / 100
        return value
