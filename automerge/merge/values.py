"""One model's values of a tensor: as it gives them, and as its weights or its delta. It knows no method and no kernel.

Whoever reads `Values` gets the same bytes on every device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Operand:
    """A source's values of the job's elements: its weights in their stored dtype, or, with `is_delta`, δ in fp32."""

    values: Tensor
    is_delta: bool = False


@dataclass(frozen=True)
class Values:
    """One model's values of the tensor, flat, as fp32. `base` is θ as it is stored, [n].

    `what` says whether they are the weights x or the delta x − θ; `operand` None stands for the base itself.
    """

    what: Literal["weights", "delta"]
    base: Tensor
    operand: Operand | None = None
    key: tuple[str, ...] | None = None  # names the content, for what is kept from one merge to the next

    @property
    def n(self) -> int:
        """The number of elements."""
        return self.base.numel()

    def read(self, start: int, stop: int) -> Tensor:
        """fp32 [stop − start], a new tensor."""
        base = self.base[start:stop].to(torch.float32, copy=True)
        if self.operand is None:
            return base if self.what == "weights" else base.zero_()
        values = self.operand.values[start:stop].to(torch.float32, copy=True)
        if self.operand.is_delta:
            return values if self.what == "delta" else values.add_(base)
        return values.sub_(base) if self.what == "delta" else values
