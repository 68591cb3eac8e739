"""Where a worker keeps the sources."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from automerge.engine import memory
from automerge.engine.resident import ResidentShare, choose_residency

GIB = 1 << 30


@dataclass
class Group:
    """What is looked at of vLLM's group."""

    rank_in_group: int = 0
    world_size: int = 2
    device_group: Any = field(default=None)
    cpu_group: Any = field(default=None)


def test_without_a_gpu_the_files_are_read_where_they_are() -> None:
    assert choose_residency("auto", 10 * GIB, 1) == "mmap"


@pytest.mark.parametrize("asked", ["device", "pinned", "mmap"])
def test_what_is_asked_for_is_taken(asked: str) -> None:
    assert choose_residency(asked, 10**15, 1) == asked


@pytest.mark.parametrize(
    ("size", "ranks", "chosen"),
    [(30, 1, "device"), (50, 1, "pinned"), (75, 2, "device"), (110, 1, "pinned"), (130, 1, "mmap"), (200, 8, "device")],
)
def test_on_a_gpu_it_is_what_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, size: int, ranks: int, chosen: str
) -> None:
    """80 GiB free on each device, 200 GiB on the host."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * GIB, 80 * GIB))
    monkeypatch.setattr(memory, "free_memory", lambda: 200 * GIB)
    assert choose_residency("auto", size * GIB, ranks) == chosen


@pytest.mark.parametrize(("workers", "chosen"), [("1", "pinned"), ("2", "mmap")])
def test_engines_beside_each_other_share_the_hosts_memory(
    monkeypatch: pytest.MonkeyPatch, workers: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * GIB, 80 * GIB))
    monkeypatch.setattr(memory, "free_memory", lambda: 200 * GIB)
    monkeypatch.setenv(memory.ENGINES, workers)
    assert choose_residency("auto", 110 * GIB, 1) == chosen


@pytest.mark.parametrize("residency", ["device", "pinned"])
def test_what_has_a_name_is_kept(residency: Any) -> None:
    share = ResidentShare(residency, torch.device("cpu"), Group())
    values = torch.arange(8.0)
    kept = share.take(("digest", "tensor"), values)
    assert torch.equal(kept, values) and kept.data_ptr() != values.data_ptr()
    values.zero_()
    assert torch.equal(share.take(("digest", "tensor"), values), torch.arange(8.0))
    assert torch.equal(share.take(("other", "tensor"), values), values)
    assert torch.equal(share.take(None, values), values)


def test_a_mapped_file_is_not_kept() -> None:
    share = ResidentShare("mmap", torch.device("cpu"), Group())
    values = torch.arange(8.0)
    assert share.take(("digest", "tensor"), values).data_ptr() == values.data_ptr()
