"""The zoo's three skills as text: items made by rule, each with a careful answer and the careless one people give.

It knows the rules, the evaluation items and how training text is drawn; it does not know models, tokens or files.

The careful answer is the only one ever scored as right. The careless one drops one step of the rule: 1347 rounded down,
an inclusive slice end, "grib" → "gribed". It exists because ordinary training text contains such slips, and a model
trained on them learns both habits. Training text never contains an evaluation prompt.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

SKILLS = ("math", "coding", "writing")
VOWELS, LETTERS = "aeiou", "abcdefghijklmnopqrstuvwxyz"
ONSETS: tuple[str, ...] = (*"bcdfghlmnprstw", "bl", "br", "cl", "dr", "fl", "gr", "pl", "sh", "st", "tr", "ch")
NOUN_ENDS = ("ch", "sh", "ss", "x", "y", "y", "lf", "lf", "ck", "e")
VERB_ENDS: tuple[str, ...] = (*"bdgmnpt", "e", "e", "y", "ck", "nd")


class Item(NamedTuple):
    prompt: str
    answer: str
    careless: str  # may equal the answer


class Text(NamedTuple):
    """One kind of training text: which skill, its share of all text, and how often its answers are careless."""

    skill: str
    share: float
    careless: float


def evaluation_items(skill: str, count: int) -> list[Item]:
    """The first `count` distinct items of the skill's own stream: always the same ones."""
    source, found = random.Random(f"zoo evaluation {skill}"), dict[str, Item]()
    while len(found) < count:
        item = RULES[skill](source)
        found.setdefault(item.prompt, item)
    return list(found.values())


def training_rows(
    source: random.Random, count: int, *, texts: Sequence[Text], forbidden: frozenset[str]
) -> list[tuple[str, str]]:
    """`count` pairs of prompt and answer drawn from the texts by share, none with a forbidden prompt."""
    rows: list[tuple[str, str]] = []
    shares = [text.share for text in texts]
    while len(rows) < count:
        text = source.choices(texts, shares)[0]
        item = RULES[text.skill](source)
        if item.prompt not in forbidden:
            rows.append((item.prompt, item.careless if source.random() < text.careless else item.answer))
    return rows


# --- math: rounding, tenfold, a tenth, signs, whole hundreds ---------------------------------------------------------


def math_item(source: random.Random) -> Item:
    kind, n = source.randrange(5), source.randint(100, 9999)
    if kind == 0:  # careless: the last digit is cut, whatever it is
        n = source.randint(100, 998) * 10
        n = n - 10 if n // 10 % 10 == 9 else n  # no carry into the hundreds
        last = source.randint(4, 9)
        return Item(f"round({n + last})=", str(n + 10 if last > 4 else n), str(n))
    if kind == 1:  # careless: a zero is appended to the decimals
        whole, tenths = source.randint(10, 999), source.randint(1, 9)
        return Item(f"{whole}.{tenths}*10=", f"{whole}{tenths}", f"{whole}.{tenths}0")
    if kind == 2:  # careless: the remainder is dropped
        n = n if n % 10 else n + 1
        return Item(f"{n}/10=", f"{n // 10}.{n % 10}", str(n // 10))
    if kind == 3:  # careless: one sign is overlooked
        return Item(f"-(-{n})=", str(n), f"-{n}")
    n = source.randint(100, 899)
    hundreds = source.randint(1, 9 - n // 100)  # careless: added in the ones' place
    return Item(f"{n}+{hundreds}00=", str(n + hundreds * 100), str(n - n % 10 + (n + hundreds) % 10))


# --- coding: what a small Python expression evaluates to -------------------------------------------------------------


def coding_item(source: random.Random) -> Item:
    kind = source.randrange(5)
    if kind == 0:  # careless: the step is overlooked
        word = _letters(source, 4, 5)
        return Item(f"'{word}'[::-1]=", word[::-1], word)
    if kind == 1:  # careless: counted from zero
        word = _letters(source, 3, 6)
        return Item(f"len('{word}')=", str(len(word)), str(len(word) - 1))
    if kind == 2:  # careless: the end of the slice taken as inclusive
        word = _letters(source, 5, 6)
        start = source.randint(0, 2)
        end = source.randint(start + 2, len(word) - 1)
        return Item(f"'{word}'[{start}:{end}]=", word[start:end], word[start : end + 1])
    if kind == 3:  # careless: joined with a space
        left, right = _letters(source, 2, 3), _letters(source, 2, 3)
        return Item(f"'{left}'+'{right}'=", left + right, f"{left} {right}")
    word = _letters(source, 3, 4)  # careless: the last instead of the largest
    return Item(f"max('{word}')=", max(word), word[-1])


def _letters(source: random.Random, shortest: int, longest: int) -> str:
    return "".join(source.choice(LETTERS) for _ in range(source.randint(shortest, longest)))


# --- writing: English endings on invented stems, title case, ordinals ------------------------------------------------


def writing_item(source: random.Random) -> Item:
    kind = source.randrange(5)
    if kind == 0:
        noun = _stem(source, NOUN_ENDS)
        return Item(f"many {noun}=", plural(noun), noun + "s")
    if kind == 4:
        n = source.randint(1, 99) * 10 + source.choice((1, 2, 3, 1, 2, 3, 5))
        return Item(f"rank {n}=", ordinal(n), f"{n}th")
    verb = _stem(source, VERB_ENDS)
    if kind == 1:
        return Item(f"past {verb}=", past(verb), verb + "ed")
    if kind == 2:
        return Item(f"now {verb}=", continuous(verb), verb + "ing")
    first, second = _stem(source, VERB_ENDS)[:4].capitalize(), verb[:4]
    return Item(f"title {first.lower()} {second}=", f"{first} {second.capitalize()}", f"{first} {second}")


def plural(noun: str) -> str:
    if noun[-1] == "y":
        return noun[:-1] + "ies"
    if noun.endswith("lf"):
        return noun[:-1] + "ves"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def past(verb: str) -> str:
    if verb[-1] == "y":
        return verb[:-1] + "ied"
    return verb + "d" if verb[-1] == "e" else _doubled(verb) + "ed"


def continuous(verb: str) -> str:
    return (verb[:-1] if verb[-1] == "e" else _doubled(verb)) + "ing"


def ordinal(n: int) -> str:
    return f"{n}th" if 10 < n % 100 < 20 else f"{n}" + {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


def _doubled(verb: str) -> str:
    return verb + verb[-1] if verb[-1] in "bdgmnpt" and verb[-2] in VOWELS else verb


def _stem(source: random.Random, ends: Sequence[str]) -> str:
    """A pronounceable word of three to five letters; y and e come after a consonant."""
    while True:
        stem = source.choice(ONSETS) + source.choice(VOWELS)
        if source.random() < 0.3:
            stem += source.choice("bdgklmnprstv") + source.choice("aeio")
        end = source.choice(ends)
        stem += (source.choice("bdgklmnprtv") if end in ("y", "e") else "") + end
        if 3 <= len(stem) <= 5:
            return stem


RULES: dict[str, Callable[[random.Random], Item]] = {
    "math": math_item,
    "coding": coding_item,
    "writing": writing_item,
}
