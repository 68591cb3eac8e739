"""Instructions a program can verify: one small check a kind. They know no scores.

Words are runs of letters, digits, apostrophes and hyphens, with the points and commas inside a number; sentences end at
. ! or ? before white space or the end, or at a full-width one; paragraphs are divided by blank lines. Emphasis,
quotation marks and a heading's # around a text do not count. `min` and `max` are inclusive, and one of them is enough.
"""

import inspect
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

Check = Callable[[str], bool]

_TITLES = "".join(rf"(?<!\b{title}\.)" for title in ("Dr", "Mr", "Ms", "Mrs", "Prof", "St", "Jr", "Sr", "vs"))
_SENTENCE_END = re.compile(
    rf"[.!?](?![.!?]){_TITLES}(?!(?<=\.\w\.)\s[a-z])"  # not of "Dr. Smith", nor of "e.g. this"
    r"(?:[*_]*+(?=\s|$)|[\"'”’»)\]*_]++(?=\s(?![a-z])|$))"  # nor of "Stop!" and left
    "|[。！？]"
)
_LISTED = re.compile(r"(?m)^[^\S\n]*+\d{1,3}\.(?=[^\S\n]+\S)")
_STRAIGHT = str.maketrans("’‘“”", "''\"\"")
_AROUND = " \"'*_`#>"


def _within(count: int, least: int | None, most: int | None) -> bool:
    return (least is None or count >= least) and (most is None or count <= most)


def words(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len(re.findall(r"\w[\w'’-]*+(?:[.,]\d[\w'’-]*+)*+", text)), min, max)


def sentences(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len(_SENTENCE_END.findall(_LISTED.sub("", text.strip()))), min, max)


def paragraphs(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    return _within(len([part for part in re.split(r"\n\s*\n", text) if part.strip(" \t\n-*_")]), min, max)


def bullets(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Lines that begin with - * + – or •."""
    return _within(len(re.findall(r"(?m)^[^\S\n]*+[-*+–•][^\S\n]++\S", text)), min, max)


def numbered(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Lines that begin with a number and a point or bracket, in bold or not."""
    found = re.findall(r"(?m)^[^\S\n]*+(?:#{1,6}[^\S\n]++)?[*_(]{0,3}\d++\\?[.)][*_]{0,3}[^\S\n]++\S", text)
    return _within(len(found), min, max)


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
    found = [word for word in re.findall(r"\w+", text) if word.isupper() and sum(map(str.isalpha, word)) > 1]
    return _within(len(found), min, max)


def no_commas(text: str) -> bool:
    return "," not in text


def no_digits(text: str) -> bool:
    return not re.search(r"\d", text)


def starts_with(text: str, *, text_: str) -> bool:
    return any(start.startswith(_folded(text_)) for start in (_folded(text), _bare(text)))


def ends_with(text: str, *, text_: str) -> bool:
    return any(end.endswith(_folded(text_)) for end in (_folded(text), _bare(text)))


def quoted(text: str) -> bool:
    """The whole answer in double quotation marks."""
    plain = text.strip()
    return len(plain) > 1 and plain[0] in '"“„«' and plain[-1] in '"”“»'


def title(text: str) -> bool:
    """A title in double angular brackets."""
    return bool(re.search(r"<<(?=[^\S\n]*+[^\s<>])[^\n<>]+>>", text))


def placeholders(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Such as [address], which is no link and no box to tick."""
    return _within(len(re.findall(r"\[(?![ xX]\])[^\[\]\n]+\](?!\()", text)), min, max)


def highlights(text: str, *, min: int | None = None, max: int | None = None) -> bool:
    """Passages between asterisks, *so* or **so**."""
    return _within(len(re.findall(r"\*\*[^*\n]+\*\*|(?<![*\w\\])\*[^*\s][^*\n]*\*(?![*\w])", text)), min, max)


def postscript(text: str) -> bool:
    line = r"^[^\S\n]*+[*_]*+"
    return bool(re.search(rf"(?m)(?:{line}|(?<=[.!?] ))(?:P\.\s?S|p\.\s?s)\b|{line}(?:P ?S\b|ps[.:])", text))


def as_json(text: str) -> bool:
    """The whole answer is one JSON value, in a fence or not."""
    plain = text.strip("\ufeff \t\r\n")
    fenced = re.fullmatch(r"(?is)```(?:json)?(.*)```", plain)
    try:
        # as strings: the digits of a number have no limit in JSON
        json.loads(fenced[1] if fenced else plain, parse_int=str, parse_float=str, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return False
    return True


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, not JSON's")


def one_of(text: str, *, choices: list[str]) -> bool:
    """The answer is one of these, and nothing else."""
    given = {_folded(text).rstrip("."), _bare(text).rstrip(".")}
    return not given.isdisjoint(_folded(choice).rstrip(".") for choice in choices)


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
    if not isinstance(kind, str) or kind not in KINDS:
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
    return kind, lambda text: check(text, **values)


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
    # an underscore is emphasis here
    return len(re.findall(rf"(?<![^\W_]){re.escape(_folded(word))}(?![^\W_])", _folded(text)))


def _folded(text: str) -> str:
    """Without case, in one kind of quotation marks and of accents, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_STRAIGHT)).casefold().split())


def _bare(text: str) -> str:
    """`_folded` without emphasis and what stands around a text."""
    return _folded(text).replace("**", "").strip(_AROUND)
