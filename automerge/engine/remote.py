"""An engine in a process of its own, on this machine or another, so that several can run beside each other.

It keeps the engine contract by passing every call on. Where its process is lost, the next apply starts another.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from automerge.config import EngineConfig
from automerge.engine.base import Continuation, Message
from automerge.errors import EngineError, EngineLost
from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling

STARTING = 600.0  # seconds a start may take at least: waiting for a place, reading a model
SERVING = 1800.0  # seconds that an apply may take beyond the timeout, for it may start vLLM


class Process(Protocol):
    """Where the calls go: child.Child, or ray_actor.Actor."""

    def call(self, name: str, *arguments: Any, seconds: float) -> Any: ...
    def close(self) -> None: ...


class RemoteEngine:
    """See engine.base.Engine. `spawn` makes a process that runs remote_host.Host; `paths`: base and sources as it is to
    open them."""

    def __init__(
        self,
        paths: tuple[str, Mapping[str, str]],
        config: EngineConfig,
        spawn: Callable[[], Process],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._base, self._sources = paths[0], dict(paths[1])
        self._config, self._spawn, self._tell = config, spawn, tell
        self._child: Process | None = None
        self._closed = False
        self.fingerprint: str = self._start()

    def apply(self, recipe: Recipe) -> Applied:
        if self._closed:
            raise EngineError("the engine is closed")
        if self._child is None:
            self._start()
        applied: Applied = self._call("apply", recipe)
        self.fingerprint = self._call("fingerprint")
        return applied

    def render(self, messages: Sequence[Message]) -> Prompt:
        prompt: Prompt = self._call("render", messages)
        return prompt

    def encode(self, text: str) -> Prompt:
        prompt: Prompt = self._call("encode", text)
        return prompt

    def tokens(self, text: str) -> tuple[int, ...]:
        found: tuple[int, ...] = self._call("tokens", text)
        return found

    @property
    def prefix_token(self) -> int:
        return int(self._call("prefix_token"))

    @property
    def context(self) -> int:
        return int(self._call("context"))

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        found: str | None = self._call("misfit", prompt, then)
        return found

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        found: list[Completion] = self._call("generate", prompts, sampling)
        return found

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        found: list[LogLikelihood] = self._call("loglikelihood", prompts, continuations)
        return found

    def close(self) -> None:
        self._closed = True
        self._stop()

    def _start(self) -> str:
        self._child = self._spawn()
        config = self._config.model_dump()
        seconds = max(STARTING, self._config.timeout)
        found: str = self._within(seconds, "start", self._base, self._sources, config)
        return found

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._child is None:
            raise EngineError("no weights are applied: call apply first, and again after one that failed")
        return self._within(self._config.timeout + SERVING * (name == "apply"), name, *arguments)

    def _within(self, seconds: float, name: str, *arguments: Any) -> Any:
        assert self._child is not None
        try:
            return self._child.call(name, *arguments, seconds=seconds)
        except EngineLost as error:
            self._stop()
            self._tell(f"an engine is lost and will be started again: {error.message}")
            raise

    def _stop(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
