"""A PEFT LoRA adapter over a base: its delta, formed for a run of elements or a tensor, never written out.

What PEFT's merge_and_unload gives on an fp32 base, to fp32 rounding; docs/lora.md lists the options. The maths are in
lowrank.py (arXiv:2106.09685, arXiv:2312.03732), dora.py (arXiv:2402.09353) and lora_changes.py: fp32 in a fixed order,
the same bytes whatever the threads, the runs and their order.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.merge.sources.checkpoint import Checkpoint, SafeFile
from automerge.merge.sources.folder import adapter_file
from automerge.merge.sources.lora_base import check_named_base
from automerge.merge.sources.lora_changes import Saved
from automerge.merge.sources.lora_config import read_lora_config
from automerge.merge.sources.lora_open import Opener
from automerge.merge.sources.source import CPU


class LoraAdapter:
    """An adapter over the base's tensors, of which `base_shapes` lists those that take part in a merge. `config` is its
    adapter_config.json, `path` its weights.

    Raises SourceError for an option that is not supported and for an adapter of another base.
    """

    def __init__(self, folder: Path, base: Checkpoint, base_shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.folder = folder
        options = read_lora_config(folder)
        self.config: dict[str, Any] = dict(options.values)
        check_named_base(self.config.get("base_model_name_or_path"), base.config, base.folder, options.where)
        self.path = adapter_file(folder)
        self._changes = Opener(options, SafeFile(self.path), base, base_shapes).open()

    def changes(self, tensor: str) -> bool:
        """Whether the adapter changes the base's tensor at all."""
        return tensor in self._changes

    def stored(self, tensor: str) -> Tensor | None:
        """The adapter's own tensor in its stored dtype, where it replaces the base's: a view of the file, read-only."""
        change = self._changes.get(tensor)
        return change.read() if isinstance(change, Saved) else None

    def delta(self, tensor: str, base: Tensor, start: int, stop: int) -> Tensor | None:
        """fp32 [stop − start] of δ's flat elements, where `base` holds the base's fp32 values of them; None where the
        adapter leaves the tensor as it is."""
        change = self._changes.get(tensor)
        return None if change is None else change.delta(start, stop, base)

    def weights(self, tensor: str, base: Tensor, start: int, stop: int) -> Tensor:
        """fp32 [stop − start]: base + δ, or the adapter's own values where it replaces the tensor."""
        change = self._changes.get(tensor)
        if change is None:
            return base.clone()
        if isinstance(change, Saved):
            return change.weights(start, stop, base.device)
        return change.delta(start, stop, base).add_(base)

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """fp32, in the tensor's shape: `delta`'s bytes, faster. KeyError where `changes` is False."""
        return self._changes[tensor].whole(device)
