"""One engine for a candidate and for the base model that judges it, by turns: where one GPU must do.

The base is merged in when it is asked for, and the candidate again when it is. Two applies a judged block take
milliseconds to seconds; a second engine would take the memory of a second model.
"""

from collections.abc import Sequence

from automerge.engine.base import Continuation, Engine, Message
from automerge.errors import MergeError
from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling


class Turns:
    """See engine.base.Engine: it answers with what was applied last, whoever was asked in between."""

    def __init__(self, engine: Engine, base: Recipe) -> None:
        """`base` merges to the base model alone."""
        self._engine = engine
        self._base = base
        self._asked: tuple[Recipe, str] | None = None  # what the caller applied, and its checksum
        self._lent = False  # to the base

    @property
    def base_digest(self) -> str:
        """The base model's, wherever it lies."""
        return self._base.base.digest

    def base(self) -> Engine:
        """The engine, with the base model applied. Whatever is asked of `self` takes it back."""
        if not self._lent and not (self._asked and self._asked[0] == self._base):
            self._lent = True
            self._engine.apply(self._base)
        return self._engine

    def apply(self, recipe: Recipe) -> Applied:
        self._asked, self._lent = None, False
        applied = self._engine.apply(recipe)
        self._asked = recipe, applied.checksum
        return applied

    def _own(self) -> Engine:
        """The engine, with what the caller applied. Raises MergeError where that merges to other bytes than before."""
        if self._lent and self._asked is not None:
            recipe, checksum = self._asked
            found = self.apply(recipe).checksum
            if found != checksum:
                raise MergeError(f"merged again after the judge's turn it has checksum {found}, before {checksum}")
        return self._engine

    @property
    def fingerprint(self) -> str:
        return self._own().fingerprint

    def render(self, messages: Sequence[Message]) -> Prompt:
        return self._own().render(messages)

    def encode(self, text: str) -> Prompt:
        return self._own().encode(text)

    def tokens(self, text: str) -> tuple[int, ...]:
        return self._own().tokens(text)

    @property
    def prefix_token(self) -> int:
        return self._own().prefix_token

    @property
    def context(self) -> int:
        return self._own().context

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        return self._own().misfit(prompt, then)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        return self._own().generate(prompts, sampling)

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        return self._own().loglikelihood(prompts, continuations)

    def close(self) -> None:
        self._engine.close()
