"""The process behind a RemoteEngine: one transformers engine, its calls answered one at a time. See child.py."""

from typing import Any

from automerge.config import EngineConfig
from automerge.engine.child import serve
from automerge.engine.transformers import TransformersEngine
from automerge.errors import EngineError
from automerge.merge.models import open_models

PROPERTIES = ("fingerprint", "prefix_token", "context")
METHODS = ("apply", "render", "encode", "tokens", "misfit", "generate", "loglikelihood")


class Host:
    """Makes the engine by `start`, then passes calls on."""

    def __init__(self) -> None:
        self._engine: TransformersEngine | None = None

    def start(self, base: str, sources: dict[str, str], config: dict[str, Any]) -> str:
        """Returns the engine's fingerprint."""
        self._engine = TransformersEngine(open_models(base, sources), EngineConfig(**config))
        return self._engine.fingerprint

    def call(self, name: str, *arguments: Any) -> Any:
        """A method's answer, or a property's value."""
        if self._engine is None:
            raise EngineError("the engine was not started")
        found = getattr(self._engine, name)
        return found if name in PROPERTIES else found(*arguments)


if __name__ == "__main__":
    host = Host()
    calls = {name: (lambda *arguments, name=name: host.call(name, *arguments)) for name in (*PROPERTIES, *METHODS)}
    serve({"start": host.start, **calls})
