"""What every source of weights offers, whatever its files are: a checkpoint, an adapter, a part of either."""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

CPU = torch.device("cpu")


class Source(Protocol):
    """A model's weights under the names of the merge's tensors. `config` is its config.json or adapter_config.json."""

    folder: Path
    config: dict[str, Any]

    def changes(self, tensor: str) -> bool:
        """Whether the tensor may differ from the base's; False only where that is known without a look."""

    def stored(self, tensor: str) -> Tensor | None:
        """The tensor in its stored dtype and shape, never to be written to; None where only a delta is there."""

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """fp32, of the tensor's shape: x − θ, formed anew, the same bytes on every device. Called only where `stored`
        gives None."""
