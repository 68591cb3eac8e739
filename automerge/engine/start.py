"""Starts the engine a config asks for."""

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.engine.transformers import TransformersEngine
from automerge.merge.models import Models


def start_engine(models: Models, config: EngineConfig) -> Engine:
    """`auto` and `transformers` are the transformers engine. Raises EngineError where the model cannot be served."""
    return TransformersEngine(models, config)
