"""Starts the engine a config asks for."""

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.merge.models import Models


def start_engine(models: Models, config: EngineConfig) -> Engine:
    """`auto` and `transformers` are the transformers engine. Raises EngineError where the model cannot be served."""
    from automerge.engine.transformers import TransformersEngine  # seconds, and only a study and eval need it

    return TransformersEngine(models, config)
