"""contains: the answer holds given strings. It does not look at word boundaries: "art" is found in "part"."""

from typing import Annotated

from pydantic import Field

from automerge.config import Closed
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import TextScorer, register
from automerge.records import Score

Wanted = Annotated[str, Field(min_length=1)]


class ContainsParams(Closed):
    """`all`: every one of these must occur; `any`: at least one of these. With neither, the item's target must."""

    all_of: tuple[Wanted, ...] = Field(default=(), alias="all")
    any_of: tuple[Wanted, ...] = Field(default=(), alias="any")
    ignore_case: bool = False


@register("contains")
class Contains(TextScorer):
    """1 where the strings occur in the answer, else 0."""

    Params = ContainsParams
    version = 2

    @property
    def needs_target(self) -> bool:
        return not (self.params.all_of or self.params.any_of)

    def check_target(self, target: str) -> str | None:
        return super().check_target(target) if self.needs_target else None

    def score_text(self, text: str, target: str) -> Score:
        every = (target.strip(),) if self.needs_target else self.params.all_of
        text = self._fold(said(text))
        missing = [wanted for wanted in every if self._fold(wanted) not in text]
        if missing:
            return Score(0.0, f"lacks {missing[0]!r}")
        if self.params.any_of and not any(self._fold(wanted) in text for wanted in self.params.any_of):
            return Score(0.0, f"lacks all of {', '.join(map(repr, self.params.any_of))}")
        return Score(1.0)

    def _fold(self, text: str) -> str:
        return text.casefold() if self.params.ignore_case else text
