"""An engine that dies, hangs or cannot start: it is told of, another is started, and nothing is left over."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.config import EngineConfig
from automerge.engine.vllm import VllmEngine
from automerge.errors import EngineError, EngineLost
from automerge.merge import Models
from automerge.records import Sampling
from tests.engine.test_child import gone, is_alive
from tests.engine.vllm.conftest import ARGUMENTS, ROOT
from tests.engine.vllm.test_weights import random_recipe

Take = Callable[..., VllmEngine]
MakeModels = Callable[..., Models]
TOO_LITTLE = r"No available memory|larger than the available KV cache memory"  # as vLLM 0.32 says it, and 0.24


def group(leader: int) -> list[int]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found.append(int(path.parent.name))
    return found


def test_killed_or_hung_it_is_started_again(vllm_models: MakeModels, take: Take) -> None:
    models = vllm_models()
    engine = take(models)
    recipe = random_recipe(models, 1)
    applied = engine.apply(recipe)
    prompts, sampling = [engine.encode("one two")], Sampling(max_tokens=4)
    answers = engine.generate(prompts, sampling)

    assert engine._child is not None
    pids = group(engine._child.pid)
    os.kill(engine._child.pid, signal.SIGKILL)
    with pytest.raises(EngineLost, match=r"died \(signal 9\)"):
        engine.generate(prompts, sampling)
    assert gone(*pids)
    with pytest.raises(EngineError, match="apply"):
        engine.generate(prompts, sampling)
    assert engine.apply(recipe).checksum == applied.checksum
    assert engine.generate(prompts, sampling) == answers

    config = engine._config
    engine._config = config.model_copy(update={"timeout": 1.0})
    pids = group(engine._child.pid)
    os.kill(engine._child.pid, signal.SIGSTOP)
    with pytest.raises(EngineLost, match="has not answered for 1 s") as caught:
        engine.loglikelihood(prompts, ["x"])
    assert "timeout" in str(caught.value)
    assert gone(*pids)
    engine._config = config
    assert engine.apply(recipe).checksum == applied.checksum
    assert engine.generate(prompts, sampling) == answers


def test_one_that_cannot_be_started_again_is_a_loss_to_go_on_after(vllm_models: MakeModels, take: Take) -> None:
    models = vllm_models()
    engine = take(models)
    recipe = random_recipe(models, 1)
    checksum = engine.apply(recipe).checksum
    config = engine._config
    assert engine._child is not None
    os.kill(engine._child.pid, signal.SIGKILL)
    with pytest.raises(EngineLost, match="died") as caught:
        engine.apply(recipe)
    assert "ran out of memory" in str(caught.value)
    engine._config = config.model_copy(update={"arguments": {**ARGUMENTS, "kv_cache_memory_bytes": 1024}})
    with pytest.raises(EngineLost, match=TOO_LITTLE):
        engine.apply(recipe)
    engine._config = config
    assert engine.apply(recipe).checksum == checksum


def test_too_little_memory_is_said_with_the_settings_to_change(vllm_models: MakeModels, tmp_path: Path) -> None:
    models = vllm_models()
    config = EngineConfig(name="vllm", arguments={**ARGUMENTS, "kv_cache_memory_bytes": 1024})
    engine = VllmEngine(models, config, tmp_path / "log")
    pid = engine._process().pid
    with pytest.raises(EngineError) as caught:
        engine.apply(random_recipe(models, 1))
    assert not isinstance(caught.value, EngineLost)
    said = str(caught.value)
    assert re.search(TOO_LITTLE, said) and "max_model_len" in said and "gpu_memory_utilization" in said
    assert str(tmp_path / "log") in said
    assert gone(pid)
    engine.close()


def test_a_wrong_argument_is_said(vllm_models: MakeModels, tmp_path: Path) -> None:
    models = vllm_models()
    config = EngineConfig(name="vllm", arguments={**ARGUMENTS, "max_modle_len": 7})
    engine = VllmEngine(models, config, tmp_path / "log")
    with pytest.raises(EngineError, match="max_modle_len"):
        engine.apply(random_recipe(models, 1))
    engine.close()


def test_ranks_end_with_a_parent_that_is_killed(vllm_models: MakeModels, tmp_path: Path) -> None:
    models = vllm_models()
    sources = {name: str(source.folder) for name, source in models.sources.items()}
    code = f"""
import time
from pathlib import Path
from automerge.config import EngineConfig
from automerge.engine.vllm import VllmEngine
from automerge.merge import open_models
from tests.engine.vllm.test_weights import random_recipe
models = open_models({str(models.base.folder)!r}, {sources!r})
config = EngineConfig(name="vllm", arguments={{**{ARGUMENTS!r}, "tensor_parallel_size": 2}})
engine = VllmEngine(models, config, Path({str(tmp_path / "log")!r}))
engine.apply(random_recipe(models, 1))
print(engine._child.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line.strip(), (tmp_path / "log").read_text()[-2000:]
    pids = group(int(line))
    assert len(pids) >= 3 and all(is_alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(*pids)
