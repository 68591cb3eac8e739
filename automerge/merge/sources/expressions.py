"""Regular expressions that came with an adapter: read as PEFT reads them, but never for long.

PEFT hands them to Python's `re`, which may look through a name of thirty letters for years. Here `re` says whether an
expression is one at all, and `regex`, which writes them alike and knows a time limit, looks for it. Compiling has no
time limit, so an expression may not be long, nor repeat anything often by count. It knows no adapter.
"""

import math
import re
from functools import lru_cache
from typing import Any

import regex

from automerge.errors import SourceError

SECONDS = 1.0  # names are short: an honest expression takes microseconds
LONGEST = 100_000  # characters
MOST_COUNTED = 10_000  # all counts multiplied, as they may lie in one another
_COUNT = re.compile(r"\{(\d{1,2})(?:,(\d{0,2}))?\}")


def check_expression(option: str, given: str, where: str, *, inside: str = "{}") -> None:
    """Raises SourceError, naming the option, where `given` is not to be used. `inside` is what it becomes a part of."""
    if len(given) > LONGEST:
        raise SourceError(f"{option}: expected at most {LONGEST} characters, got {len(given)}", where=where)
    counts = [int(count[2] or count[1]) for count in _COUNT.finditer(given)]
    if "{" in _COUNT.sub("", given) or math.prod(max(count, 1) for count in counts) > MOST_COUNTED:
        raise SourceError(f"{option}: {given!r} repeats too often, or holds a {{ that begins no count", where=where)
    try:
        for expression in (given, inside.replace("{}", given)):
            re.compile(expression)
            regex.compile(expression)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise SourceError(f"{option}: {given!r} is no regular expression: {error}", where=where) from error


def match(option: str, expression: str, name: str, where: str, *, whole: bool = False) -> Any:
    """The match at a name's beginning, or of the `whole` name, with a checked expression; None where there is none.

    Raises SourceError, naming the option, after SECONDS.
    """
    compiled = _compiled(expression)
    try:
        return (compiled.fullmatch if whole else compiled.match)(name, timeout=SECONDS)
    except TimeoutError:
        message = f"{option}: {expression!r} takes longer than {SECONDS:g} s to look for in {name}"
        raise SourceError(message, where=where, hint="Write it without repeated repetitions, or list names.") from None


_compiled = lru_cache(10_000)(regex.compile)
