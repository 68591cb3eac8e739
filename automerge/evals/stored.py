"""What the answer store keeps, as values and as rows. It knows no database."""

from dataclasses import dataclass

from automerge.evals.scorers.base import Answer
from automerge.records import Completion, LogLikelihood, Score, from_json, to_json


@dataclass(frozen=True)
class Stored:
    """One answer with what it answers. `key` has 32 bytes; `continuation` is None for generated text."""

    key: bytes
    checksum: str
    prompt: str
    continuation: str | None
    answer: Answer
    seconds: float

    def row(self) -> tuple[bytes, str, str, str, str | None, str, int, float]:
        """The columns of the table `answers`."""
        kind = "generate" if isinstance(self.answer, Completion) else "loglikelihood"
        answer, tokens = to_json(self.answer), generated_tokens(self.answer)
        return (self.key, self.checksum, kind, self.prompt, self.continuation, answer, tokens, self.seconds)


@dataclass(frozen=True)
class Scored:
    """One score: of the answer `answer` (its key) by the scorer `scorer` (32 bytes)."""

    answer: bytes
    scorer: bytes
    skill: str
    item: str
    score: Score

    def row(self) -> tuple[bytes, bytes, str, str, float | None, str]:
        """The columns of the table `scores`."""
        return (self.answer, self.scorer, self.skill, self.item, self.score.value, self.score.detail)


def parse_answer(kind: str, text: str) -> Answer:
    """The answer in a row; `kind` is generate or loglikelihood."""
    return from_json(Completion, text) if kind == "generate" else from_json(LogLikelihood, text)


def shown_answer(answer: Answer, continuation: str | None) -> str:
    """What a reader is shown: the generated text, or the gold text whose likelihood was taken."""
    return answer.text if isinstance(answer, Completion) else continuation or ""


def generated_tokens(answer: Answer) -> int:
    """How many tokens were generated: none for a likelihood."""
    return answer.tokens if isinstance(answer, Completion) else 0
