"""The number an answer ends on: which of its numbers it says is the one. It knows no targets and no scores.

In order of strength: the first after GSM8K's "####"; the last \\boxed{…}; the last "answer is", "Answer:", "Result:"
and the like; a number alone in the first line; the only number in bold; the last number.

After a mark: the number it begins with (or, of an expression, what that comes to: "3 + 4 = 7", "9 * 2, i.e. 18"); where
it begins with words, a sentence follows ("Answer: after 3 weeks he has $45"), and its last number is read.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction

from automerge.evals.scorers.answers import STATED, ends, second_thought
from automerge.evals.scorers.numbers import NUMBER, numbers_of, plain, value_of

MOST_LINE = 10_000  # characters behind a mark
MOST_MARKS = 100  # looked at, from the last

# not the heading "#### 1. Count the eggs"
_GSM8K = re.compile(r"####([^\w\n.]{0,20}\.?\d(?!\d?[.):]\W{0,5}[A-Za-z])[^\n]*)")
_BOXED = re.compile(r"\\f?boxed\s*\{")
_BEFORE = re.compile(  # what may stand between a mark and its number
    r"(?i)(?:[^\w.+-]|(?:approximately|about|roughly|around|exactly|simply|just|only|therefore|thus|then|equal to"
    r"|equals|clearly|indeed|likely|probably)\b|[a-z]\w{0,20}(?: [a-z]{1,20})?\s?=(?!=))*"
)
_APART = re.compile(r"(?i)\A(?:-|minus |negative )\s{0,5}(?=[\d.])")  # a sign apart from its number
_OPERATOR = re.compile(
    r"(?i)\s*(?:[a-z%]{1,20}\s{1,3}){0,2}"
    r"(?:[-+*/×·÷x]|\\(?:times|cdot|div)|plus|minus|times|(?:more|less|fewer) than)\s*[\d(]"
)
_COMES_TO = re.compile(r"(?i)=|\bi\.e\.|\bthat is\b|\bwhich (?:is|gives|makes|equals)\b")
_SENTENCE = re.compile(r"(?<!i\.e)(?<!e\.g)[.!?](?=\s|$)|。|\n")
_ASIDE = re.compile(r"(?i)(?<=[^-+*/×·÷=\s])\s?\((?=[^)])|\b(?:since|because)\b|;")
_BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
_BOLD_NUMBER = re.compile(rf"(?:[^.\d]{{0,60}}[:=]\W{{0,5}}|\W{{0,5}})({NUMBER.pattern})(?![.):]\s)[^\d]*")
_ALONE = re.compile(rf"\A\W*?({NUMBER.pattern})\W*?(?:\n|\Z)")
_LISTED = re.compile(r"(?m)^[ \t]*\d{1,2}[.)](?=[ \t]+\S)")  # a list's number


def final_number(text: str) -> Fraction | None:
    """The number an answer ends on, or None where it has none. A second thought ("Wait, …") takes back what was said
    before it, if it has a number itself."""
    text = plain(ends(text))
    found = _first(_GSM8K.finditer(text), lambda match: _read(match[1]))
    for part in (second_thought(text), text):
        found = found if found is not None else _marked(part)
        found = found if found is not None else _unmarked(part)
    return found


def is_marked(text: str) -> bool:
    """Whether a text says which of its numbers it ends on."""
    text = plain(ends(text))
    return any(mark.search(text) for mark in (_GSM8K, _BOXED, STATED))


def _marked(text: str) -> Fraction | None:
    boxed = list(_BOXED.finditer(text))[: -MOST_MARKS - 1 : -1]
    found = _first(boxed, lambda mark: _read(re.split(r"[}]|\n\n", _behind(text, mark))[0]))
    if found is not None:
        return found
    stated = list(STATED.finditer(text))[: -MOST_MARKS - 1 : -1]
    return _first(stated, lambda mark: _read(_behind(text, mark), after=mark[0].rstrip(" *\"'")))


def _first(marks: Iterable[re.Match[str]], read: Callable[[re.Match[str]], Fraction | None]) -> Fraction | None:
    return next((value for mark in marks if (value := read(mark)) is not None), None)


def _behind(text: str, mark: re.Match[str]) -> str:
    return text[mark.end() : mark.end() + MOST_LINE]


def _read(statement: str, after: str = "=") -> Fraction | None:
    """The number of what stands after a mark."""
    before = _BEFORE.match(statement)
    rest = _APART.sub("-", statement[before.end() if before else 0 :])
    first = NUMBER.match(rest)
    if first is None:
        return _of_prose(statement, after)
    clause = _ASIDE.split(_SENTENCE.split(rest, maxsplit=1)[0], maxsplit=1)[0]
    behind = clause[first.end() :]
    if re.match(r"\W{0,3}?=", behind):  # 18 = 9 * 2
        return value_of(first)
    if "=" in behind or _OPERATOR.match(behind):
        came_to = numbers_of(_APART.sub("-", _COMES_TO.split(clause)[-1].lstrip()))
        if came_to:
            return came_to[0]
    return next(iter(numbers_of(rest)), None)


def _of_prose(statement: str, after: str) -> Fraction | None:
    """The number of words after a mark: of the sentence after "is", of the paragraph after "Answer:", of all that
    follows "Answer:" in a line of its own."""
    if after[-1].isalnum():
        return _unmarked(_SENTENCE.split(statement.lstrip(), maxsplit=1)[0])
    own_line = after.endswith("\n") or re.match(r"[ *]*\n", statement)
    return _unmarked(statement if own_line else statement.split("\n\n", 1)[0])


def _unmarked(text: str) -> Fraction | None:
    if alone := _ALONE.match(text):
        return value_of(alone)
    bold = (_BOLD_NUMBER.fullmatch(match[1]) for match in _BOLD.finditer(text))
    values = {value_of(match) for match in bold if match}
    if len(values) == 1:
        return values.pop()
    matches = [*NUMBER.finditer(text), *NUMBER.finditer(_LISTED.sub("", text))]
    return _first(reversed(matches), value_of)
