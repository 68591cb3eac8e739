"""Judges that no server serves: a model in an engine of its own, or the study's base in the engine that is there."""

import atexit
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock

from automerge.config import EngineConfig, locate
from automerge.engine.base import Engine
from automerge.engine.turns import Turns
from automerge.evals.judge.config import JudgeConfig
from automerge.evals.judge.endpoint import OnWords
from automerge.evals.judge.reply import CUT_OFF, Reply
from automerge.evals.serve import Served, serve
from automerge.merge.models import open_models
from automerge.records import Sampling

BLOCK = 8  # prompts at once: they are long, and what was said is kept after each block


class LocalJudge:
    """A folder or hub id, asked in its own chat template. Its engine starts when it is first asked.

    All skills that name it share it, and workers ask from threads of their own: it answers one after the other.
    """

    def __init__(self, config: JudgeConfig, serving: EngineConfig | None = None) -> None:
        self._config = config
        self._serving = serving or EngineConfig()
        self._asked = Lock()

    @cached_property
    def identity(self) -> str:
        """The digest of its weights, not its path: another model may be put there. Raises SourceError."""
        place = locate(self._config.model, Path())
        return open_models(place, {"model": place}).base_ref.digest

    @cached_property
    def _served(self) -> Served:
        served = serve(self._config.model, None, self._serving)
        atexit.register(served.engine.close)
        return served

    def ask(self, prompts: Sequence[str], on_words: OnWords) -> list[Reply]:
        """As Endpoint.ask."""
        with self._asked:
            return _ask(self._served.engine, prompts, self._config.max_tokens, on_words)


class BaseJudge:
    """The base model of a study, between the blocks of the candidate whose answers it judges."""

    def __init__(self, config: JudgeConfig, turns: Turns) -> None:
        self._config = config
        self._turns = turns
        self.identity = turns.base_digest

    def ask(self, prompts: Sequence[str], on_words: OnWords) -> list[Reply]:
        """As Endpoint.ask."""
        return _ask(self._turns.base(), prompts, self._config.max_tokens, on_words)


def _ask(engine: Engine, prompts: Sequence[str], max_tokens: int, on_words: OnWords) -> list[Reply]:
    """A reply a prompt; none for one beyond the judge's context."""
    sampling = Sampling(max_tokens=max_tokens)
    replies: dict[int, Reply] = {}
    rendered = [engine.render([{"role": "user", "content": text}]) for text in prompts]
    for index, prompt in enumerate(rendered):
        if (misfit := engine.misfit(prompt, sampling)) is not None:
            replies[index] = Reply(None, f"the judge cannot be asked: {misfit}")
    fitting = [index for index in range(len(prompts)) if index not in replies]
    for start in range(0, len(fitting), BLOCK):
        block = fitting[start : start + BLOCK]
        for index, completion in zip(block, engine.generate([rendered[i] for i in block], sampling), strict=True):
            if completion.finish == "length":
                replies[index] = Reply(None, CUT_OFF)
            elif not completion.text.strip():
                replies[index] = Reply(None, "the judge said nothing")
            else:
                replies[index] = Reply(completion.text)
                on_words(index, completion.text)
    return [replies[index] for index in range(len(prompts))]
