"""A full checkpoint in safetensors, single or sharded, mapped and not loaded: pages are read when a run is asked for.

It knows no base and no merge. What must agree with the base is checked in compat.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from automerge.errors import SourceError
from automerge.merge.sources.folder import read_config, weight_map
from automerge.merge.sources.pages import give_back
from automerge.merge.sources.source import CPU

DERIVED = ".rotary_emb.inv_freq"  # frequencies that config.json gives; transformers stored them once, and ignores them
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class SafeFile:
    """One safetensors file, open and mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = _map(path)
            self.names: tuple[str, ...] = tuple(self._handle.keys())
        except (SafetensorError, OSError) as error:
            hint = "Download or copy the file again."
            raise SourceError(f"truncated or corrupt safetensors: {error}", where=str(path), hint=hint) from error

    def describe(self, tensor: str) -> tuple[torch.dtype, tuple[int, ...]]:
        """dtype and shape. Raises SourceError for a dtype that cannot be merged."""
        part = self._handle.get_slice(tensor)
        dtype = str(part.get_dtype())
        if dtype not in DTYPES:
            hint = "Quantised and integer weights cannot be merged; take the unquantised checkpoint."
            if dtype in ("F64", "BOOL"):
                hint = "Save the model again in float32, or without what is no weight."
            raise SourceError(f"{tensor}: expected {', '.join(DTYPES)}, got {dtype}", where=str(self.path), hint=hint)
        return DTYPES[dtype], tuple(int(size) for size in part.get_shape())

    def mapped(self, tensor: str) -> Tensor:
        """The tensor as a view of the mapped file: nothing is read before it is touched. Never write to it."""
        mapped: Tensor = self._handle.get_tensor(tensor)
        return mapped


def _map(path: Path) -> Any:  # safetensors comes without types
    return safe_open(str(path), framework="pt", device="cpu")


class Checkpoint:
    """A full model: names, shapes, dtypes and config at once, values on demand. It is read-only.

    Stored frequencies of rotary embeddings are none of its tensors: some checkpoints have them, their fine-tunes not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_config(folder)
        self.files, listed = weight_map(folder)
        self._open: dict[str, SafeFile] = {name: SafeFile(path) for name, path in self.files.items()}
        owners = _owners(self._open, listed, folder)
        self._file_of = {tensor: name for tensor, name in owners.items() if not tensor.endswith(DERIVED)}
        described = {tensor: self._open[name].describe(tensor) for tensor, name in self._file_of.items()}
        self.dtypes: Mapping[str, torch.dtype] = {tensor: dtype for tensor, (dtype, _) in described.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {tensor: shape for tensor, (_, shape) in described.items()}
        self._views: dict[str, Tensor] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, in the files' order."""
        return tuple(self._file_of)

    def mapped(self, tensor: str) -> Tensor:
        """The tensor in its stored dtype and shape, a read-only view of the file."""
        return self._open[self._file_of[tensor]].mapped(tensor)

    def give_back(self) -> None:
        """Unmaps what was read of the files since the last call; it is mapped again when it is read again."""
        for view in self._views.values():
            give_back(view)
        self._views.clear()

    def changes(self, tensor: str) -> bool:
        """True: a full model may differ everywhere."""
        return True

    def stored(self, tensor: str) -> Tensor:
        """See Source."""
        view = self._views.get(tensor)
        if view is None:
            view = self._views[tensor] = self.mapped(tensor)
        return view

    def values(self, tensor: str, start: int, stop: int) -> Tensor:
        """fp32 [stop − start]: a copy of the flat elements start … stop − 1."""
        return self.stored(tensor).view(-1)[start:stop].to(torch.float32, copy=True)

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """Never needed: a checkpoint's values are stored."""
        raise NotImplementedError("a checkpoint has weights, not a delta")


def _owners(files: Mapping[str, SafeFile], listed: Mapping[str, str] | None, folder: Path) -> dict[str, str]:
    """Tensor → file name, where each tensor is in exactly one file, as the index says."""
    owner: dict[str, str] = {}
    for name, file in files.items():
        for tensor in file.names:
            if tensor in owner:
                raise SourceError(f"{tensor} is in two shards, {owner[tensor]} and {name}", where=str(folder))
            if listed is not None and tensor not in listed:
                raise SourceError(f"{tensor} is in {name}, but not in the index", where=str(folder))
            owner[tensor] = name
    for tensor, name in (listed or {}).items():
        if owner.get(tensor) != name:
            really = f"is in {owner[tensor]}" if tensor in owner else "is not there"
            raise SourceError(f"the index has {tensor} in {name}, but it {really}", where=str(folder))
    return owner
