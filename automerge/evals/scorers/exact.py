"""exact: the answer is the target, character for character, after the trimming its parameters ask for."""

from automerge.config import Closed
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import TextScorer, register
from automerge.records import Score


class ExactParams(Closed):
    """`strip`: drop outer white space. `first_line`: compare the answer's first line that is not blank."""

    strip: bool = True
    ignore_case: bool = False
    first_line: bool = False


@register("exact")
class Exact(TextScorer):
    """1 where the trimmed answer equals the target, else 0."""

    target_is_answer = True
    Params = ExactParams
    version = 2

    def score_text(self, text: str, target: str) -> Score:
        text = said(text)
        if self.params.first_line:
            text = next((line for line in text.splitlines() if line.strip()), "")
        given, wanted = self._normal(text), self._normal(target)
        return Score(1.0) if given == wanted else Score(0.0, f"expected {wanted!r}")

    def _normal(self, text: str) -> str:
        text = text.strip() if self.params.strip else text
        return text.casefold() if self.params.ignore_case else text
