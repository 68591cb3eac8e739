"""The process behind a RemoteEngine: the engine that a config asks for, its calls answered one at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.engine.child import serve
from automerge.engine.start import start_engine
from automerge.errors import EngineError
from automerge.merge.models import open_models

PROPERTIES = ("fingerprint", "prefix_token", "context")
METHODS = ("apply", "render", "encode", "tokens", "misfit", "generate", "loglikelihood")


class Host:
    """Makes the engine by `start`, then passes calls on."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def start(self, base: str, sources: dict[str, str], config: dict[str, Any]) -> str:
        """Returns the engine's fingerprint."""
        self._engine = start_engine(open_models(base, sources), EngineConfig(**config))
        return self._engine.fingerprint

    def call(self, name: str, *arguments: Any) -> Any:
        """A method's answer, or a property's value."""
        if self._engine is None:
            raise EngineError("the engine was not started")
        found = getattr(self._engine, name)
        return found if name in PROPERTIES else found(*arguments)

    def methods(self) -> dict[str, Callable[..., Any]]:
        """All that may be called, by name."""
        return {"start": self.start, **{name: partial(self.call, name) for name in (*PROPERTIES, *METHODS)}}


if __name__ == "__main__":
    serve(Host().methods())
