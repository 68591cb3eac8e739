"""choice: the letter an answer picks is the target's.

Which letter, the first rule that finds one: in the last \\boxed{…}; after the last "answer is", "answer:" and the like,
in a few languages; of an option that is said to be right; after the last "option" that is not said to be wrong, or "I
choose"; at the answer's very beginning ("B", "(B)", "B) because", "**B**"); the last letter in brackets; the last line
that is a letter alone. A word "a" in prose is none of these.
"""

import re

from pydantic import field_validator

from automerge.config import Closed
from automerge.evals.scorers.base import TextScorer, register
from automerge.records import Score

ANSWER = (
    r"(?i:\banswer\b(?:\s+(?:is|would be|should be|must be|has to be))?|\brespuesta\b(?:\s+correcta)?(?:\s+es)?"
    r"|\br[ée]ponse\b(?:\s+est)?|\bantwort\b(?:\s+ist)?|答案(?:是|为|為)?)"
)


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
    version = 2

    def check_target(self, target: str) -> str | None:
        if self._wanted(target) is None:
            return f"the target picks none of {', '.join(self.params.letters)}: {target[:40]!r}"
        return None

    def score_text(self, text: str, target: str) -> Score:
        wanted = self._wanted(target)
        if wanted is None:
            return Score(None, "the target picks no letter")
        picked = picked_letter(text, self.params.letters)
        if picked is None:
            return Score(0.0, "no letter in the answer")
        return Score(1.0, picked) if picked == wanted else Score(0.0, f"{picked}, expected {wanted}")

    def _wanted(self, target: str) -> str | None:
        plain = target.strip().strip("()").upper()
        return plain if len(plain) == 1 and plain in self.params.letters else None


def picked_letter(text: str, letters: str) -> str | None:
    """The letter an answer picks, as a capital, or None."""
    one = f"[{letters}{letters.lower()}]"
    capital = f"[{letters}]"
    # a small letter only where it is no article: "the answer is a dog"
    alone = rf"({capital}(?![\w'’])|[{letters.lower()}](?=[ \t]*(?:[)\]}}.:,;*_`\"'<]|$)))"
    wrapped = rf"[\s*_`\"'(\[{{]{{0,20}}{alone}"
    wrong = r"(?!\W{0,5}(?i:is|was|would be)\s+(?i:in|not|wrong|false))"
    right = r"\W{0,5}(?i:is|would be)\s+(?:the\s+)?(?i:correct|right|best)\b"
    rules = (
        rf"\\boxed\s*\{{\s*(?:\\(?:text|mathrm|mathbf|textbf)\s*\{{)?\s*\(?({one})\W",
        rf"{ANSWER}[\"'*_]{{0,4}}\s{{0,5}}[:=>：-]?{wrapped}",
        rf"(?i:\b(?:option|choice)\b)\s{{0,5}}:?{wrapped}{right}",
        rf"(?i:\b(?:option|choice|choose|pick|select)\b(?:\s+is)?(?:\s+option)?)\s{{0,5}}:?{wrapped}{wrong}",
    )
    for rule in rules:
        if found := re.findall(rule, text, re.MULTILINE):
            return str(found[-1]).upper()
    if match := re.match(rf"[\s*_`\"'(\[]*({one})(?:[)\].:,*_`\"']|\s*$|\s*\n|\s+[-–—]\s)", text):
        return match[1].upper()
    if found := re.findall(rf"[(\[]({capital})[)\]]", text):
        return str(found[-1])
    if found := re.findall(rf"(?m)^[ \t*_`]*+({capital})[ \t*_`.)]*+$", text):
        return str(found[-1])
    return None
