"""A judge in an engine of our own, beside the one whose answers it judges. It starts when it is first asked."""

import atexit
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from automerge.config import EngineConfig, locate
from automerge.evals.judge.config import JudgeConfig
from automerge.evals.judge.endpoint import OnWords
from automerge.evals.judge.reply import Reply
from automerge.evals.serve import Served, serve
from automerge.merge.models import open_models
from automerge.records import Sampling

BLOCK = 8  # prompts at once: they are long, and what was said is kept after each block


class LocalJudge:
    """A folder or hub id, asked in its own chat template."""

    def __init__(self, config: JudgeConfig, serving: EngineConfig | None = None) -> None:
        self._config = config
        self._serving = serving or EngineConfig()

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
        """As Endpoint.ask. Raises EngineError for a prompt beyond the judge's context."""
        engine = self._served.engine
        sampling = Sampling(max_tokens=self._config.max_tokens)
        replies: list[Reply] = []
        for start in range(0, len(prompts), BLOCK):
            block = [engine.render([{"role": "user", "content": text}]) for text in prompts[start : start + BLOCK]]
            for index, completion in enumerate(engine.generate(block, sampling), start=start):
                said = completion.text.strip()
                replies.append(Reply(completion.text, "") if said else Reply(None, "the judge said nothing"))
                if said:
                    on_words(index, completion.text)
        return replies
