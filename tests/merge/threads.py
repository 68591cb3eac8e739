"""Ranks as threads of one process: a share that gathers through memory all of them see, as a device group would."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from automerge.merge.share import Key, part_length

T = TypeVar("T")


@dataclass
class Meeting:
    """Where the ranks' tensors are laid side by side."""

    ranks: int
    laid: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.ranks, timeout=60)


class ThreadShare:
    """See merge.share.Share. `took` are the keys of what was asked to be kept."""

    device = torch.device("cpu")

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.ranks, self.meeting = rank, meeting.ranks, meeting
        self.took: dict[Key, Tensor] = {}

    def room(self, n: int) -> tuple[int, torch.device]:
        return part_length(n, self.ranks) * self.ranks, self.device

    def take(self, key: Key | None, part: Tensor) -> Tensor:
        if key is None:
            return part
        return self.took.setdefault(key, part.clone())

    def gather(self, flat: Tensor) -> None:
        self.meeting.laid[self.rank] = flat
        self.meeting.barrier.wait()
        length = flat.numel() // self.ranks
        parts = [self.meeting.laid[rank][rank * length : (rank + 1) * length].clone() for rank in range(self.ranks)]
        self.meeting.barrier.wait()
        flat.copy_(torch.cat(parts) if parts else flat)
        self.meeting.barrier.wait()


def together(ranks: int, work: Callable[[ThreadShare], T]) -> list[T]:
    """What each rank's `work` returns. Raises what one of them raised."""
    meeting = Meeting(ranks)
    found: dict[int, T] = {}
    raised: list[BaseException] = []

    def one(rank: int) -> None:
        try:
            found[rank] = work(ThreadShare(rank, meeting))
        except BaseException as error:
            raised.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return [found[rank] for rank in range(ranks)]
