"""Where a worker keeps the sources between merges, and its part of a merge that several ranks make together.

| residency | where | an apply reads | takes |
|---|---|---|---|
| device | the engine's own memory | device memory | each rank its part of every full source |
| pinned | page-locked host memory | the bus | the same, of the host |
| mmap | the files, through the system's page cache | the files | nothing of its own |

An adapter keeps its factors only, whatever the residency; its deltas are formed where the
merge is made, for each.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from automerge.engine.memory import own_memory
from automerge.merge.share import Key, part_length

Residency = Literal["device", "pinned", "mmap"]

DEVICE_PART = 0.5  # of a GPU's free memory, at most, for sources: the model and its KV cache want the rest
HOST_PART = 0.6  # of the host's free memory, page-locked


def choose_residency(asked: str, size: int, ranks: int) -> Residency:
    """What `auto` comes to for full sources (the base among them) of `size` bytes in all, shared by so many ranks.

    On a CPU the files are in the engine's own memory already, as far as they are read often.
    """
    if asked in ("device", "pinned", "mmap"):
        return asked  # type: ignore[return-value]
    if not torch.cuda.is_available():
        return "mmap"
    if size / ranks <= DEVICE_PART * torch.cuda.mem_get_info()[0]:
        return "device"
    return "pinned" if size <= HOST_PART * own_memory() else "mmap"


class ResidentShare:
    """See merge.share.Share. `group` is vLLM's tensor-parallel group: `rank_in_group`, `world_size`, its groups."""

    def __init__(self, residency: Residency, device: torch.device, group: Any) -> None:
        self.device = device
        self.rank = int(group.rank_in_group)
        self.ranks = int(group.world_size)
        self._group = group.device_group if device.type == "cuda" else group.cpu_group
        self._residency = residency
        self._kept: dict[Key, Tensor] = {}

    @property
    def held(self) -> int:
        """Bytes of sources kept."""
        return sum(tensor.nbytes for tensor in self._kept.values())

    def room(self, n: int) -> tuple[int, torch.device]:
        return part_length(n, self.ranks) * self.ranks, self.device

    def take(self, key: Key | None, part: Tensor) -> Tensor:
        if key is None or self._residency == "mmap":
            return part if part.device == self.device else part.to(self.device)
        if key not in self._kept:
            self._kept[key] = self._keep(part)
        return self._kept[key].to(self.device, non_blocking=True)

    def gather(self, flat: Tensor) -> None:
        if self.ranks == 1 or not flat.numel():
            return
        whole = flat.view(torch.uint8)
        length = whole.numel() // self.ranks
        own = whole[self.rank * length : (self.rank + 1) * length]
        torch.distributed.all_gather_into_tensor(whole, own.clone(), group=self._group)

    def _keep(self, part: Tensor) -> Tensor:
        if self._residency == "device":
            return part.to(self.device, copy=True)
        return part.pin_memory() if self.device.type == "cuda" else part.clone()
