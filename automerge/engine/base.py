"""What every engine does: hold one model, take merged weights in place, answer prompts. It knows no skill and no study.

An engine is used by one caller at a time. Its weights are undefined until the first `apply`, and after one that raised.
"""

from collections.abc import Sequence
from typing import Protocol

from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling

Message = dict[str, str]  # {"role": "user", "content": "…"}
Continuation = str | tuple[int, ...]  # what follows a prompt: a text, or its tokens


class Engine(Protocol):
    """The contract tests/engine/contract.py checks for every engine."""

    @property
    def fingerprint(self) -> str:
        """Whatever may change an answer besides weights, prompt and sampling: engine, versions, dtype, device."""
        ...

    def apply(self, recipe: Recipe) -> Applied:
        """Merges in place. Raises MergeError, and no answer may be asked before an apply that succeeds."""
        ...

    def render(self, messages: Sequence[Message]) -> Prompt:
        """A conversation through the chat template of the recipe's tokenizer, ready for the assistant's turn.

        Raises SkillError where that tokenizer has no chat template.
        """
        ...

    def encode(self, text: str) -> Prompt:
        """Plain text as a prompt, with the special tokens the tokenizer itself adds."""
        ...

    def tokens(self, text: str) -> tuple[int, ...]:
        """Plain text's tokens, with no special ones added."""
        ...

    @property
    def prefix_token(self) -> int:
        """What may stand before a text that has nothing before it: the token that begins a text, else the one that
        ends it."""
        ...

    @property
    def context(self) -> int:
        """Tokens that a prompt and whatever follows it may have together. Known once a recipe was applied."""
        ...

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        """Why the served model cannot be asked this: what is beyond its context. None where it can."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """One completion a prompt, in order. Raises EngineError for a prompt beyond the context length."""
        ...

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        """The log-probability of each continuation's tokens after its prompt, in order. Continuations are not empty."""
        ...

    def close(self) -> None:
        """Frees the model. May be called twice."""
        ...
