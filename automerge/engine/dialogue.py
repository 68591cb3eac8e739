"""The tokenizer's side of an engine: conversations and texts into prompts, generated tokens into answers."""

from collections.abc import Sequence

from transformers import AutoTokenizer

from automerge.engine.base import Continuation, Message
from automerge.engine.templates.client import TemplateFailure, render_chat
from automerge.errors import EngineError, SkillError
from automerge.records import Completion, Prompt, Sampling

CONTEXT = 8  # tokens of a prompt that its answer is decoded after


class Dialogue:
    """One folder's tokenizer. `ends` are the tokens that end an answer, `pad` may follow them."""

    def __init__(self, folder: str) -> None:
        """Raises EngineError where the folder's tokenizer cannot be loaded."""
        self._folder = folder
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise EngineError(f"the tokenizer cannot be loaded: {reason}", where=folder) from error

    def render(self, messages: Sequence[Message]) -> Prompt:
        """See engine.base.Engine."""
        if not self.tokenizer.chat_template:
            raise SkillError(
                "the skill asks in chat turns, but the model's tokenizer has no chat template",
                hint="Set `chat: false` in the skill, or name a source that has one as `tokenizer`.",
            )
        fields = {"messages": list(messages), "tools": None, "documents": None, "add_generation_prompt": True}
        try:
            text = render_chat(self.tokenizer.get_chat_template(), {**self.tokenizer.special_tokens_map, **fields})
        except TemplateFailure as failure:
            raise SkillError(f"the model's chat template {_said(failure)} ({self._folder})") from failure
        return Prompt(text, tuple(self.tokenizer.encode(text, add_special_tokens=False)))

    def encode(self, text: str) -> Prompt:
        """See engine.base.Engine."""
        return Prompt(text, tuple(self.tokenizer.encode(text)))

    def tokens(self, text: str) -> tuple[int, ...]:
        """See engine.base.Engine."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    @property
    def prefix_token(self) -> int:
        """See engine.base.Engine. 0 where the tokenizer has neither."""
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(first if first is not None else last or 0)

    def continuation(self, given: Continuation) -> list[int]:
        """A continuation's tokens."""
        return list(self.tokens(given) if isinstance(given, str) else given)

    def length(self, then: Sampling | Continuation) -> int:
        """The most tokens that may follow a prompt."""
        return then.max_tokens if isinstance(then, Sampling) else len(self.continuation(then))

    def completion(
        self, prompt: Sequence[int], row: Sequence[int], sampling: Sampling, ends: frozenset[int], pad: int
    ) -> Completion:
        """The answer that tokens make which follow a prompt's: up to the first of `ends`, before a stop string."""
        length = next((i for i, token in enumerate(row) if token in ends), len(row))
        text = self._text(prompt, row[:length])
        cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=None)
        if cut is None:
            ended = length < len(row)
            return Completion(text, length + ended, "stop" if ended else "length")
        while length and row[length - 1] == pad:  # the batch's other rows went on
            length -= 1
        return Completion(text[:cut], length, "stop")

    def _text(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        """The text that an answer adds to its prompt's. Alone, it would lack its first space where a tokenizer puts one
        before every text."""
        before = list(prompt[-CONTEXT:])
        known = self.tokenizer.decode(before, skip_special_tokens=True)
        whole = self.tokenizer.decode([*before, *answer], skip_special_tokens=True)
        if known and whole.startswith(known):
            return str(whole[len(known) :])
        return str(self.tokenizer.decode(list(answer), skip_special_tokens=True))

    def pad(self, ends: frozenset[int]) -> int:
        """The token that fills rows."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(ends, default=0)


def _said(failure: TemplateFailure) -> str:
    if failure.kind == "refused":
        return f"refuses the skill's turns: {failure.message}"
    return failure.message if failure.kind == "limit" else f"failed: {failure.message}"


def check_context(prompts: Sequence[Prompt], more: Sequence[int], context: int) -> None:
    """Raises EngineError where a prompt and the tokens that follow it (`more`) exceed the context."""
    for prompt, extra in zip(prompts, more, strict=True):
        if (why := beyond(prompt, extra, context)) is not None:
            raise EngineError(f"{why}: {prompt.text[:60]!r}…", hint="Drop the item, or lower sampling.max_tokens.")


def beyond(prompt: Prompt, more: int, context: int) -> str | None:
    """That a prompt and the tokens that follow it exceed the context, in words; None where they do not."""
    if len(prompt.token_ids) + more <= context:
        return None
    return f"a prompt of {len(prompt.token_ids)} tokens and {more} more exceed the context of {context}"


def check_dtype(recipe_dtype: str, engine_dtype: str) -> None:
    """Raises EngineError where the engine would round the merged values again."""
    if engine_dtype not in ("float32", recipe_dtype):
        raise EngineError(
            f"the recipe merges to {recipe_dtype}, which {engine_dtype} cannot hold: "
            "rounded again, other weights would be scored than the checksum names",
            where="engine.dtype",
            hint=f"Set engine: {{dtype: {recipe_dtype}}} or float32.",
        )
