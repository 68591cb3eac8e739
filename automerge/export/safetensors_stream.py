"""Writes a safetensors file tensor by tensor, so that no shard is ever held in memory.

The safetensors library writes from tensors that all exist at once. The format needs no such thing: shapes are known
beforehand, so the header can go first. It is: 8 bytes, the header's length as little-endian u64; the header, JSON with
dtype, shape and data_offsets of every tensor, padded with spaces to a multiple of 8; then the bytes, without gaps.
It knows nothing of models.
"""

import json
import os
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class SafetensorsStream:
    """One file. Tensors must come in the order of `shapes`; leaving the block flushes it to the disk."""

    def __init__(self, path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        self._shapes = shapes
        self._dtype = dtype
        self._left = list(shapes)
        self._file = path.open("wb")
        try:
            self._file.write(_header(shapes, dtype))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SafetensorsStream":
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Appends the next tensor. Raises ValueError where name, shape or dtype are not the announced ones."""
        expected = self._left.pop(0) if self._left else None
        if name != expected or tuple(tensor.shape) != self._shapes[name] or tensor.dtype != self._dtype:
            raise ValueError(f"expected {expected} {self._dtype}, got {name} {list(tensor.shape)} {tensor.dtype}")
        self._file.write(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._left:
                    raise ValueError(f"{len(self._left)} tensors were announced and not written")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + torch.Size(shape).numel() * dtype.itemsize
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
