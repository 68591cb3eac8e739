"""Instructions a program can verify: one small check a kind. They know no scores.

Words are runs of letters, digits, apostrophes and hyphens; sentences end at . ! or ? before white space or the end;
paragraphs are divided by blank lines. `min` and `max` are inclusive, and one of them is enough.
"""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any

Check = Callable[[str], bool]


def _within(count: int, least: int | None, most: int | None) -> bool:
    return (least is None or count >= least) and (most is None or count <= most)


def words(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len(re.findall(r"\w[\w'’-]*", text)), min, max)


def sentences(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len(re.findall(r"[.!?](?![.!?])[\"'”’)\]]*+(?=\s|$)", text.strip())), min, max)


def paragraphs(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len([part for part in re.split(r"\n\s*\n", text) if part.strip()]), min, max)


def bullets(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Lines that begin with - * or •."""
    return _within(len(re.findall(r"(?m)^[^\S\n]*+[-*•][^\S\n]++\S", text)), min, max)


def numbered(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Lines that begin with a number and a point or bracket."""
    return _within(len(re.findall(r"(?m)^[^\S\n]*+\d++[.)][^\S\n]++\S", text)), min, max)


def include(text: str, *, word: str, min: int = 1, max: int | None = None) -> bool:
    """A word or phrase, by itself, in any case."""
    return _within(_count(text, word), min, max)


def forbid(text: str, *, word: str) -> bool:
    return _count(text, word) == 0


def letter(text: str, *, letter: str, min: int | None = None, max: int | None = None) -> bool:
    """How often a letter occurs, in any case."""
    return _within(text.casefold().count(letter.casefold()), min, max)


def lowercase(text: str) -> bool:
    return text == text.lower()


def uppercase(text: str) -> bool:
    return text == text.upper()


def capitals(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Words all in capitals, of two letters or more."""
    return _within(len(re.findall(r"\b[A-Z]{2,}\b", text)), min, max)


def no_commas(text: str) -> bool:
    return "," not in text


def no_digits(text: str) -> bool:
    return not re.search(r"\d", text)


def starts_with(text: str, *, text_: str) -> bool:
    return text.strip().casefold().startswith(text_.casefold())


def ends_with(text: str, *, text_: str) -> bool:
    return text.strip().strip("\"'*").casefold().endswith(text_.casefold())


def quoted(text: str) -> bool:
    """The whole answer in double quotation marks."""
    plain = text.strip()
    return len(plain) > 1 and plain[0] in '"“' and plain[-1] in '"”'


def title(text: str) -> bool:
    """A title in double angular brackets."""
    return bool(re.search(r"<<[^\n<>]+>>", text))


def placeholders(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Such as [address]."""
    return _within(len(re.findall(r"\[[^\[\]\n]+\]", text)), min, max)


def highlights(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Passages between asterisks, *so* or **so**."""
    return _within(len(re.findall(r"\*\*[^*\n]+\*\*|(?<!\*)\*[^*\s][^*\n]*\*(?!\*)", text)), min, max)


def postscript(text: str) -> bool:
    return bool(re.search(r"(?m)^[^\S\n]*+\**+P\.?\s?S\b\.?", text))


def as_json(text: str) -> bool:
    """The whole answer is one JSON value, in a fence or not."""
    plain = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        json.loads(plain)
    except (ValueError, RecursionError):
        return False
    return True


def one_of(text: str, *, choices: list[str]) -> bool:
    """The answer is one of these, and nothing else."""
    return text.strip().rstrip(".").casefold() in {choice.rstrip(".").casefold() for choice in choices}


KINDS: dict[str, Callable[..., bool]] = {
    **{check.__name__: check for check in (words, sentences, paragraphs, bullets, numbered, include, forbid, letter)},
    **{check.__name__: check for check in (lowercase, uppercase, capitals, no_commas, no_digits, starts_with)},
    **{check.__name__: check for check in (ends_with, quoted, title, placeholders, highlights, postscript, one_of)},
    "json": as_json,
}


def parse_instructions(target: str) -> list[tuple[str, Check]]:
    """(kind, check) of each. Raises ValueError that says what is wrong with the target."""
    try:
        given = json.loads(target)
    except ValueError as error:
        raise ValueError(f"the target is not JSON: {error}") from error
    if not isinstance(given, list) or not given or not all(isinstance(entry, dict) for entry in given):
        raise ValueError('expected a list of instructions such as [{"type": "words", "max": 50}]')
    return [_parsed(dict(entry)) for entry in given]


def _parsed(entry: dict[str, Any]) -> tuple[str, Check]:
    kind = entry.pop("type", None)
    if kind not in KINDS:
        raise ValueError(f"unknown instruction {kind!r}; known: {', '.join(sorted(KINDS))}")
    check = KINDS[kind]
    values = {"text_" if key == "text" else key: value for key, value in entry.items()}
    parameters = list(inspect.signature(check).parameters.values())[1:]
    unknown = values.keys() - {parameter.name for parameter in parameters}
    missing = {p.name for p in parameters if p.default is p.empty} - values.keys()
    if unknown or missing:
        told = "unknown" if unknown else "missing"
        names = sorted(name.rstrip("_") for name in unknown or missing)
        raise ValueError(f"instruction {kind}: {told} key {', '.join(names)}")
    for parameter in parameters:
        if parameter.name in values:
            _check_value(kind, parameter.name.rstrip("_"), values[parameter.name])
    if (values.get("min") or 0) > values.get("max", float("inf")):
        raise ValueError(f"instruction {kind}: min {values['min']} is above max {values['max']}")
    if {"min", "max"} <= {p.name for p in parameters if p.default is None} and not values.keys() & {"min", "max"}:
        raise ValueError(f"instruction {kind}: expected min, max or both")
    return str(kind), lambda text: check(text, **values)


def _check_value(kind: str, name: str, value: Any) -> None:
    if name in ("min", "max"):
        fits, expected = type(value) is int and value >= 0, "a count from 0"
    elif name == "choices":
        fits = isinstance(value, list) and bool(value) and all(isinstance(entry, str) and entry for entry in value)
        expected = "a list of texts"
    else:
        fits, expected = isinstance(value, str) and bool(value.strip()), "a text"
    if not fits:
        raise ValueError(f"instruction {kind}: {name}: expected {expected}, got {value!r}")


def _count(text: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))
