"""The host's free memory, and vLLM's part of it where it runs on the CPU."""

import os
from typing import Any

import pytest
import torch

from automerge.engine import memory, vllm_host
from automerge.engine.memory import free_memory
from automerge.engine.share import Share


def test_free_memory_is_some_of_what_is_there() -> None:
    assert 0 < free_memory() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("gpu", "workers", "space", "arguments", "taken"),
    [
        (False, 1, None, {"seed": 1}, {"kv_cache_memory_bytes": 250}),
        (False, 4, None, {"seed": 1}, {"kv_cache_memory_bytes": 62}),
        (False, 1, "4", {}, {}),
        (False, 1, None, {"gpu_memory_utilization": 0.5}, {}),
        (False, 1, None, {"kv_cache_memory_bytes": 7}, {}),
        (True, 1, None, {}, {}),
    ],
)
def test_without_a_gpu_vllms_cache_is_a_part_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,
    workers: int,
    space: str | None,
    arguments: dict[str, Any],
    taken: dict[str, int],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(workers)))
    for name, value in Share(0, workers).environment(1).items() if workers > 1 else ():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(vllm_host.CACHE_SPACE, raising=False)
    if space:
        monkeypatch.setenv(vllm_host.CACHE_SPACE, space)
    assert vllm_host._with_room(arguments) == {**arguments, **taken}
