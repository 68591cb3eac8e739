"""A scripted engine for tests: no model, no tensors, answers from a function. It is shipped, but it is no way to score.

It keeps the engine contract otherwise: nothing may be asked before an apply that succeeded, same recipe → same
checksum, answers come in order, and every call is on record in `calls`.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence

from automerge.engine.base import Continuation, Message
from automerge.errors import EngineError, SkillError
from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling

AnswerFunction = Callable[[Recipe, str], str]  # (recipe, prompt text) → answer
LogprobFunction = Callable[[Recipe, str, str], Sequence[float]]  # (recipe, prompt text, continuation) → a token each

_WORDS = re.compile(r"\s*\S+|\s+$")


class FakeEngine:
    """Answers what `answer` and `logprobs` say. A token is a word with the white space before it.

    `fail` maps the number of a call to what it raises: {2: EngineError("…")} fails the third call of apply, generate
    and loglikelihood taken together. `chat=False` is a tokenizer without a chat template; `context` counts words.
    """

    def __init__(
        self,
        answer: AnswerFunction | None = None,
        logprobs: LogprobFunction | None = None,
        *,
        fail: Mapping[int, BaseException] | None = None,
        chat: bool = True,
        context: int = 2**31,
        fingerprint: str = "fake 1",
    ) -> None:
        self.calls: list[tuple[str, int]] = []  # (method, number of prompts), every apply and question in order
        self.closed = False
        self._answer = answer or (lambda recipe, prompt: "")
        self._logprobs = logprobs or (lambda recipe, prompt, continuation: [math.log(0.5)] * len(_words(continuation)))
        self._fail = dict(fail or {})
        self._chat = chat
        self._context = context
        self._fingerprint = fingerprint
        self._recipe: Recipe | None = None

    @property
    def fingerprint(self) -> str:
        """As given."""
        return self._fingerprint

    def apply(self, recipe: Recipe) -> Applied:
        """Takes the recipe; the checksum is the first 32 digits of a hash of the recipe's. Merges nothing."""
        self._recipe = None
        self._call("apply", 0)
        self._recipe = recipe
        checksum = hashlib.sha256(f"fake {recipe.hash}".encode()).hexdigest()[:32]
        return Applied(checksum, seconds=0.0, bytes=0)

    def render(self, messages: Sequence[Message]) -> Prompt:
        """The conversation as <role>content lines. Raises SkillError with chat=False."""
        if not self._chat:
            raise SkillError("the tokenizer has no chat template", hint="Write chat: false in the skill.")
        text = "".join(f"<{message['role']}>{message['content']}\n" for message in messages)
        return self.encode(f"{text}<assistant>")

    def encode(self, text: str) -> Prompt:
        """The text; a word's token id is a hash of it."""
        ids = (int.from_bytes(hashlib.sha256(word.encode()).digest()[:3]) for word in _words(text))
        return Prompt(text, tuple(ids))

    def tokens(self, text: str) -> tuple[int, ...]:
        """As `encode` has them: there are no special ones."""
        return self.encode(text).token_ids

    @property
    def prefix_token(self) -> int:
        """Of no word."""
        return 0

    @property
    def context(self) -> int:
        """As given."""
        return self._context

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        """That prompt and answer exceed `context` words."""
        more = then.max_tokens if isinstance(then, Sampling) else len(_words(then) if isinstance(then, str) else then)
        if len(prompt.token_ids) + more <= self._context:
            return None
        return f"a prompt of {len(prompt.token_ids)} tokens and {more} more exceed the context of {self._context}"

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """The scripted answers, cut at a stop string and at `max_tokens` words."""
        self._call("generate", len(prompts))
        recipe = self._served()
        self._check(prompts, [sampling] * len(prompts))
        return [_cut(self._answer(recipe, prompt.text), sampling) for prompt in prompts]

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        """The scripted log-probabilities; without a script every word has probability 0.5."""
        self._call("loglikelihood", len(prompts))
        recipe = self._served()
        self._check(prompts, continuations)
        return [
            self._likelihood(recipe, prompt.text, continuation)
            for prompt, continuation in zip(prompts, continuations, strict=True)
        ]

    def _check(self, prompts: Sequence[Prompt], then: Sequence[Sampling | Continuation]) -> None:
        for prompt, what in zip(prompts, then, strict=True):
            if (why := self.misfit(prompt, what)) is not None:
                raise EngineError(why)

    def _likelihood(self, recipe: Recipe, prompt: str, continuation: Continuation) -> LogLikelihood:
        # Tokens have no text here; each counts as a word of its own.
        text = continuation if isinstance(continuation, str) else " ".join(map(str, continuation))
        found = tuple(self._logprobs(recipe, prompt, text))
        return LogLikelihood(found, all(value > math.log(0.5) for value in found))

    def close(self) -> None:
        """Marks the engine closed. May be called twice."""
        self.closed = True

    def _call(self, method: str, prompts: int) -> None:
        if self.closed:
            raise EngineError("the engine is closed")
        number = len(self.calls)
        self.calls.append((method, prompts))
        if number in self._fail:
            raise self._fail[number]

    def _served(self) -> Recipe:
        if self._recipe is None:
            raise EngineError("nothing is served yet: apply a recipe first")
        return self._recipe


def _words(text: str) -> list[str]:
    return _WORDS.findall(text)


def _cut(text: str, sampling: Sampling) -> Completion:
    ends = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
    finish = "stop"
    if ends:
        text = text[: min(ends)]
    words = _words(text)
    if len(words) > sampling.max_tokens:
        words, finish = words[: sampling.max_tokens], "length"
    return Completion("".join(words), len(words), finish)
