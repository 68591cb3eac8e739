"""choice: the letter an answer picks is the target's.

Which letter, the first rule that finds one: in the last \\boxed{…}; after the last "answer is", "Answer:", "the
correct option is" and the like, in a few languages; the last that is said to be right; the last that is chosen or
concluded ("I choose B", "so it's B."); after the last "option" that is neither said to be wrong nor compared with; at
the answer's very beginning ("B", "(B)", "B) because", "**B**"); the last letter in brackets; the last line that is a
letter alone. A word "a" in prose is none of these, and "A or B" picks neither.
"""

import re
from functools import cache
from typing import NamedTuple

from pydantic import field_validator

from automerge.config import Closed
from automerge.evals.scorers.answers import STATED, ends, linked, plain, said, second_thought
from automerge.evals.scorers.base import TextScorer, register
from automerge.records import Score

_RIGHT_ONE = linked(
    r"\b(?:(?:correct|right|best|better|final|my) (?:\w+ )?"
    r"(?:option|choice|letter|one|statement)(?: letter)?|solution)\b"
)
_ANSWER = re.compile(rf"{STATED.pattern}|{_RIGHT_ONE}|(?:选项|選項|选择|選擇|选|選)(?:应该)?[是为為:]{{0,2}}")
_FILLER = re.compile(
    r"(?i)(?:\s?not\s[^.\n]{1,30}?\sbut\b)?(?:[\s,]{0,3}\b(?:\w+ly|therefore|indeed|thus|most|the|la|le|die|option|opción"
    r"|choice|letter|answer|first|second|third|fourth|last|one|in)\b){0,4}[\s,:>-]{0,4}"
)
_DECORATION = re.compile(r"(?m)^[ \t]*(?:[>#•*-]{1,6}[ \t]+){1,3}")  # of a quotation, heading or bullet


class ChoiceParams(Closed):
    """`letters`: those there are to pick from, in capitals."""

    letters: str = "ABCD"

    @field_validator("letters")
    @classmethod
    def _distinct_capitals(cls, letters: str) -> str:
        if not re.fullmatch("[A-Z]{2,}", letters) or len(set(letters)) != len(letters):
            raise ValueError(f"expected two or more different capitals, such as ABCD, got {letters!r}")
        return letters


@register("choice")
class Choice(TextScorer):
    """1 where the letter is the target's, else 0; no letter at all is a wrong answer, not an unscored one."""

    target_is_answer = True
    Params = ChoiceParams
    version = 3

    def check_target(self, target: str) -> str | None:
        if self._wanted(target) is None:
            return f"the target picks none of {', '.join(self.params.letters)}: {target[:40]!r}"
        return None

    def score_text(self, text: str, target: str) -> Score:
        wanted = self._wanted(target)
        if wanted is None:
            return Score(None, "the target picks no letter")
        picked = picked_letter(said(text), self.params.letters)
        if picked is None:
            return Score(0.0, "no letter in the answer")
        return Score(1.0, picked) if picked == wanted else Score(0.0, f"{picked}, expected {wanted}")

    def _wanted(self, target: str) -> str | None:
        plain = target.strip().strip("()").upper()
        return plain if len(plain) == 1 and plain in self.params.letters else None


def picked_letter(text: str, letters: str) -> str | None:
    """The letter an answer picks, as a capital, or None. A second thought ("Wait, …") that picks one goes first."""
    text = _DECORATION.sub("", plain(ends(text)).replace("$", ""))
    return _picked(second_thought(text), letters) or _picked(text, letters)


def _picked(text: str, letters: str) -> str | None:
    rules = _rules(letters)
    if found := _last([rules.boxed], text):
        return found
    for mark in reversed(list(_ANSWER.finditer(text))):
        filler = _FILLER.match(text, mark.end())
        if match := rules.alone.match(text, filler.end() if filler else mark.end()):
            return match[1].upper()
    if found := _last(rules.picked, text):
        return found
    if match := rules.beginning.match(text):
        return match[1].upper()
    return _last(rules.set_apart, text)


def _last(rules: list[re.Pattern[str]], text: str) -> str | None:
    """The last letter that the first rule finds that finds any."""
    found = (rule.findall(text) for rule in rules)
    return next((str(letters[-1]).upper() for letters in found if letters), None)


class _Rules(NamedTuple):
    """Patterns, each with the letter as its group. `alone`: the letter itself, where a mark has led to it."""

    alone: re.Pattern[str]
    boxed: re.Pattern[str]
    picked: list[re.Pattern[str]]
    beginning: re.Pattern[str]
    set_apart: list[re.Pattern[str]]


@cache
def _rules(letters: str) -> _Rules:
    one = f"[{letters}{letters.lower()}]"
    capital = f"[{letters}]"
    # no hedge: "A or B" is one, "B and C is wrong" is none
    sole = rf"(?![A-Za-zÀ-ɏ\d_]|'\w|\W{{0,3}}\s(?:or|and)\s+\(?{capital}\b(?!\)?\s+(?:is|was|has|would)\b))"
    # a small letter only where it is no article: "the answer is a dog"
    small = rf"[{letters.lower()}](?=[ \t]*(?:[)\]}}.:,;*`\"'<]|$))"
    alone = rf"[\s*`\"'(\[{{<]{{0,20}}({capital}{sole}|{small})"
    wrong = r"(?!\W{0,5}(?i:is|was|would be)\s+(?i:in|not|wrong|false))"
    compared = r"(?<!(?i:than) )(?<!(?i:unlike) )(?<!(?i:not) )(?<!(?i:over) )"
    leading = "option|choice|letter|statement|so|thus|hence|therefore|that|because|and|but|only|think"
    led = rf"(?:^|[.,;:!?]\s*|\b(?i:{leading})\s)"  # not "vitamin C is best"
    right = r"(?i:is|was|would be|seems|sounds)\s+(?:(?:\w{2,12}ly|the|indeed)\s+){0,2}(?i:correct|right|best|better)\b"
    chosen = r"(?i:\b(?:choose|choosing|pick|select|go(?:ing)? with|would say|still say|opt for)\b)"
    concluded = r"(?i:\b(?:so|thus|hence|therefore|it's|it is|must be|this is)\b)"
    named = r"[\s,:]{1,3}(?i:(?:that|it's|it is|option|choice|answer|letter)\s){0,3}"
    closed = r"[)\]*\"']{0,4}(?=\s*(?:$|[.!;(]|,?\s(?:because|since|as)\b))"
    return _Rules(
        re.compile(alone, re.MULTILINE),
        re.compile(rf"\\f?boxed\s{{0,9}}\{{[\s*(]{{0,9}}({one})(?![A-Za-z\d])"),
        [
            re.compile(rf"(?m){led}[(*\"']{{0,3}}({capital})[)\]*\"'.:]{{0,4}}\s+{right}"),
            re.compile(rf"(?m){chosen}{named}{alone}"),
            re.compile(rf"(?m){concluded}{named}{alone}{closed}"),
            re.compile(rf"(?m){compared}(?i:\b(?:option|choice|answer|letter)\b(?:\s+is)?)\s{{0,5}}:?{alone}{wrong}"),
        ],
        # not the pronoun: "I, after some thought, …"; not the first of several: "A, B and C are wrong"
        re.compile(
            rf"[\s*`\"'(\[]{{0,20}}(?!I(?:,|\s-))({one})"
            rf"(?:[)\].:*`\"'!?]|,(?!\s*{capital}\b)|\s*$|\s*\n|\s+-\s)"
        ),
        [
            re.compile(rf"[(\[]({capital})[)\]]"),
            re.compile(rf"(?m)^[ \t*`]*+({capital})[ \t*`.)]*+$"),
        ],
    )
