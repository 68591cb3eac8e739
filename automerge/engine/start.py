"""Starts the engine a config asks for."""

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.engine.child import Child
from automerge.engine.remote import RemoteEngine
from automerge.engine.share import Share
from automerge.errors import ClusterError, EngineError, install
from automerge.merge.models import Models

ALONE = Share(0, 1)
HOST = "automerge.engine.remote_host"


def start_engine(
    models: Models,
    config: EngineConfig,
    *,
    log: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
    share: Share = ALONE,
) -> Engine:
    """`auto` is vLLM where it is installed and a GPU is there, else transformers.

    `log` is where an engine in a process of its own prints; `tell` takes lines for the user on what happens later.
    `share`: of several engines on this machine, which one.
    Raises EngineError where the model cannot be served, or vLLM is asked for and not installed.
    """
    environment = share.environment(int(config.arguments.get("tensor_parallel_size", 1))) if share.of > 1 else {}
    if chosen_engine(config)[0] == "transformers":
        if share.of > 1:
            return RemoteEngine(paths_of(models), config, partial(Child, HOST, log or _anywhere(), environment), tell)
        from automerge.engine.transformers import TransformersEngine  # seconds, and only a study and eval need it

        return TransformersEngine(models, config)
    if not vllm_installed():
        raise EngineError("vllm is not installed", where="engine.name", hint=install("vllm"))
    from automerge.engine.vllm import VllmEngine

    return VllmEngine(models, config, log or _anywhere(), tell, environment)


def _anywhere() -> Path:
    """Where an engine prints whose caller has no folder. It is kept: errors name it."""
    return Path(tempfile.mkdtemp(prefix="automerge-"), "engine.log")


def on_ray(
    models: Models, config: EngineConfig, address: str, workers: int, tell: Callable[[str], None]
) -> Callable[[], Engine]:
    """Joins a Ray cluster; starts one of so many engines there, each node choosing as `start_engine` does. Raises
    ClusterError, also where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("ray is not installed", where="--ray", hint=install("ray"))
    from automerge.engine.ray_actor import Actor, join

    spawn = partial(Actor, join(address, config, workers))
    return lambda: RemoteEngine(paths_of(models), config, spawn, tell)


def paths_of(models: Models) -> tuple[str, dict[str, str]]:
    """Where base and sources lie."""
    return str(models.base.folder), {name: str(source.folder) for name, source in models.sources.items()}


def chosen_engine(config: EngineConfig) -> tuple[str, str]:
    """transformers or vllm, and why."""
    if config.name != "auto":
        return config.name, "as asked"
    if not vllm_installed():
        return "transformers", "vLLM is not installed"
    import torch

    if torch.cuda.is_available():
        return "vllm", "it is installed and a GPU is there"
    return "transformers", "there is no GPU; engine: {name: vllm} takes vLLM's CPU build"


def vllm_installed() -> bool:
    """Whether vLLM can be imported; it is not imported for this."""
    return importlib.util.find_spec("vllm") is not None
