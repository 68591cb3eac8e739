"""regex: a pattern finds something in the answer; with a group, what the group holds is the target.

The pattern is Python's syntax. A search that takes longer than SECONDS ends unscored: patterns can take for ever.
"""

import regex
from pydantic import Field, field_validator

from automerge.config import Closed
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import TextScorer, register
from automerge.records import Score

SECONDS = 1.0


class RegexParams(Closed):
    """`pattern`, with one group at most; `last`: the last match counts, not the first."""

    pattern: str = Field(min_length=1)
    ignore_case: bool = False
    last: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            groups = regex.compile(pattern).groups
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups > 1:
            raise ValueError(f"expected one group at most, got {groups}; (?:…) is a group that is not counted")
        return pattern


@register("regex")
class Regex(TextScorer):
    """1 where the pattern is found (and its group is the target), else 0."""

    Params = RegexParams
    version = 2

    def __init__(self, params: RegexParams) -> None:
        super().__init__(params)
        flags = regex.MULTILINE | (regex.IGNORECASE if params.ignore_case else 0)
        self._pattern = regex.compile(params.pattern, flags)

    @property
    def needs_target(self) -> bool:
        return bool(self._pattern.groups)

    def check_target(self, target: str) -> str | None:
        return super().check_target(target) if self.needs_target else None

    def score_text(self, text: str, target: str) -> Score:
        try:
            found = list(self._pattern.finditer(said(text), timeout=SECONDS))
        except TimeoutError:
            return Score(None, f"the pattern took longer than {SECONDS:g} s")
        if not found:
            return Score(0.0, "no match")
        match = found[-1] if self.params.last else found[0]
        if not self.needs_target:
            return Score(1.0, match[0][:80])
        given, wanted = (match[1] or "").strip(), target.strip()
        if self.params.ignore_case:
            given, wanted = given.casefold(), wanted.casefold()
        return Score(1.0, given[:80]) if given == wanted else Score(0.0, f"{given[:80]!r}, expected {wanted!r}")
