"""Starts the engine a config asks for."""

import importlib.util
import tempfile
from pathlib import Path

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.errors import EngineError
from automerge.merge.models import Models


def start_engine(models: Models, config: EngineConfig, *, log: Path | None = None) -> Engine:
    """`auto` is vLLM where it is installed and a GPU is there, else transformers. `log`: where vLLM's own output goes.

    Raises EngineError where the model cannot be served, or vLLM is asked for and not installed.
    """
    if chosen_engine(config) == "transformers":
        from automerge.engine.transformers import TransformersEngine  # seconds, and only a study and eval need it

        return TransformersEngine(models, config)
    if not vllm_installed():
        raise EngineError("vllm is not installed", where="engine.name", hint="pip install 'automerge[vllm]'")
    from automerge.engine.vllm import VllmEngine

    return VllmEngine(models, config, log or Path(tempfile.gettempdir(), f"automerge-vllm-{id(models):x}.log"))


def chosen_engine(config: EngineConfig) -> str:
    """transformers or vllm."""
    if config.name != "auto":
        return config.name
    if not vllm_installed():
        return "transformers"
    import torch

    return "vllm" if torch.cuda.is_available() else "transformers"


def vllm_installed() -> bool:
    """Whether vLLM can be imported; it is not imported for this."""
    return importlib.util.find_spec("vllm") is not None
