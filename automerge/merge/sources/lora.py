"""A PEFT LoRA adapter over a base: its delta, formed for a run of elements at a time and never written out.

Paper: arXiv:2106.09685 (E. Hu et al., 2021), eq. 3; rank-stabilised scale: arXiv:2312.03732. For a target W [o, i],
A [r, i] and B [o, r]:
    δ = s · Σ_k B[:, k] A[k, :],   s = α / r, or α / √r with use_rslora
fp32, k ascending, one rounding a product and one a sum, then one for s: the same bytes everywhere, as no BLAS gives.
The sum starts at +0.0. Every option of PEFT that is not this is refused by its name.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.errors import SourceError
from automerge.merge.piece import fp32
from automerge.merge.sources.checkpoint import SafeFile
from automerge.merge.sources.folder import ADAPTER_CONFIG, adapter_file, read_json

PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.(?:default\.)?weight")

# read and used here, or without effect on merged weights
KNOWN = frozenset(
    {"peft_type", "r", "lora_alpha", "use_rslora"}
    | {"task_type", "base_model_name_or_path", "revision", "peft_version", "auto_mapping", "inference_mode"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying"}
    | {"lora_dropout", "eva_config", "megatron_core", "qalora_group_size", "runtime_config"}
)
# these values, or none at all, change nothing; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA change the base when they begin
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
}


class LoraAdapter:
    """An adapter's tensors over the base's names. `base_shapes` are the base's; a target must be among them."""

    def __init__(self, folder: Path, base_shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.folder = folder
        self.config = read_json(folder / ADAPTER_CONFIG)
        _check_config(self.config, str(folder / ADAPTER_CONFIG))
        self.path = adapter_file(folder)
        self.file = SafeFile(self.path)
        self.shapes = base_shapes
        self.targets = _targets(self.file, base_shapes, int(self.config["r"]))
        self._held: tuple[str, Tensor, Tensor] | None = None

    def delta(self, tensor: str, base: Tensor, start: int, stop: int) -> Tensor | None:
        """fp32 [stop − start] of δ's flat elements; None where the adapter leaves the tensor as it is."""
        if tensor not in self.targets:
            return None
        a, b_rows, scale = self._factors(tensor)
        columns = a.shape[1]
        first, last = start // columns, -(-stop // columns)
        result = torch.zeros(last - first, columns, device=base.device)
        product = torch.empty_like(result)
        for a_row, b_column in zip(a, b_rows[:, first:last], strict=True):
            torch.mul(b_column.unsqueeze(1), a_row.unsqueeze(0), out=product)
            result.add_(product)
        return result.mul_(scale).view(-1)[start - first * columns : stop - first * columns]

    def weights(self, tensor: str, base: Tensor, start: int, stop: int) -> Tensor:
        """fp32 [stop − start]: base + δ."""
        delta = self.delta(tensor, base, start, stop)
        return base.clone() if delta is None else delta.add_(base)

    def _factors(self, tensor: str) -> tuple[Tensor, Tensor, float]:
        """A [r, i] and B transposed [r, o], fp32, and the scale. The last tensor's are kept: its runs follow on."""
        held = self._held
        if held is None or held[0] != tensor:
            a_name, b_name = self.targets[tensor]
            a = self.file.mapped(a_name).to(torch.float32)
            held = self._held = (tensor, a, self.file.mapped(b_name).to(torch.float32).t().contiguous())
        _, a, b_rows = held
        rank = a.shape[0]
        alpha = float(self.config["lora_alpha"])
        return a, b_rows, fp32(alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank)


def _check_config(config: Mapping[str, Any], where: str) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise SourceError(f"expected an adapter of peft_type LORA, got {kind}", where=where)
    for option, value in config.items():
        if option in KNOWN or not value or value in NEUTRAL.get(option, ()):
            continue
        hint = "Merge the adapter into its base with PEFT (merge_and_unload), and name that folder instead."
        raise SourceError(f"the LoRA option {option}={value!r} is not supported", where=where, hint=hint)
    for key, kinds in (("r", int), ("lora_alpha", (int, float))):
        number = config.get(key)
        if isinstance(number, bool) or not isinstance(number, kinds) or not 0 < number < math.inf:
            raise SourceError(f"{key}: expected a positive number, got {number!r}", where=where)


def _targets(file: SafeFile, base_shapes: Mapping[str, tuple[int, ...]], rank: int) -> dict[str, tuple[str, str]]:
    """Base tensor → names of its A and B, with every shape checked."""
    where = str(file.path)
    sides: dict[str, dict[str, str]] = {}
    for name in file.names:
        found = _PART.fullmatch(name)
        if found is None:
            hint = "Only linear layers' lora_A and lora_B are supported."
            raise SourceError(f"cannot use the adapter tensor {name}", where=where, hint=hint)
        sides.setdefault(found["module"].removeprefix(PREFIX) + ".weight", {})[found["side"]] = name
    if not sides:
        raise SourceError("the adapter holds no tensors", where=where)
    for tensor, names in sides.items():
        if tensor not in base_shapes:
            hint = "Was this adapter made for another base?"
            raise SourceError(f"the adapter changes {tensor}, which the base does not have", where=where, hint=hint)
        if set(names) != {"A", "B"}:
            raise SourceError(f"{tensor}: lora_A and lora_B must both be there", where=where)
        (_, a), (_, b) = (file.describe(names[side]) for side in "AB")
        shape = base_shapes[tensor]
        if len(shape) != 2 or a != (rank, shape[1]) or b != (shape[0], rank):
            hint = "Was this adapter made for another base?"
            message = f"{tensor}: the base has shape {list(shape)}, the adapter r={rank}, A {list(a)}, B {list(b)}"
            raise SourceError(message, where=where, hint=hint)
    return {tensor: (names["A"], names["B"]) for tensor, names in sides.items()}
