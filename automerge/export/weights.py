"""Weights into a folder's safetensors files, tensor by tensor as they are made, and read back to prove them."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from automerge.errors import ExportError, SourceError
from automerge.export.safetensors_stream import SafetensorsStream
from automerge.export.verify import stored_sums
from automerge.merge.sources.folder import INDEX, SINGLE

MAX_SHARD_BYTES = 2_000_000_000
HELD_BYTES = 16 << 20  # tensors written before what was read for them is given back
Progress = Callable[[str], None]  # takes one line that says what is being done


class Weights(Protocol):
    """What is written: a merge, or models put together. The checksum is known once `tensors` is exhausted."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def bytes(self) -> int: ...
    @property
    def checksum(self) -> str: ...
    def tensors(self) -> Iterator[tuple[str, Tensor]]: ...


def _shards(weights: Weights, limit: int) -> dict[str, list[str]]:
    """File name → its tensors, in their order; a shard holds at least one tensor."""
    groups: list[list[str]] = [[]]
    size = 0
    for name in weights.names:
        need = weights.dtype.itemsize * math.prod(weights.shapes[name])
        if groups[-1] and size + need > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += need
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{n:05d}-of-{len(groups):05d}.safetensors": names for n, names in enumerate(groups, 1)}


def write_weights(
    weights: Weights, part: Path, give_back: Callable[[], None], tell: Progress, limit: int = MAX_SHARD_BYTES
) -> None:
    """Into shards of at most `limit` bytes, with an index where there are several. `give_back` is called now and then:
    it frees what was read for tensors that are written."""
    shards = _shards(weights, limit)
    tensors = weights.tensors()
    read = 0
    for file, names in shards.items():
        tell(f"writing {file}")
        with SafetensorsStream(part / file, {name: weights.shapes[name] for name in names}, weights.dtype) as stream:
            for _ in names:
                name, tensor = next(tensors)
                stream.write(name, tensor)
                read += tensor.nbytes
                if read >= HELD_BYTES:
                    give_back()
                    read = 0
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": weights.bytes},
            "weight_map": {name: file for file, names in shards.items() for name in names},
        }
        (part / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def prove(part: Path, checksum: str) -> None:
    """Reads the weights back through the safetensors library, and recomputes the checksum."""
    try:
        sums = stored_sums(part)
    except SourceError as error:
        raise ExportError(f"what was written cannot be read: {error.message}", where=str(part)) from error
    if sums.hexdigest() != checksum:
        message = f"read back, the weights' checksum is {sums.hexdigest()}, expected {checksum}"
        raise ExportError(message, where=str(part), hint="The disk or its memory is at fault. Export elsewhere.")
