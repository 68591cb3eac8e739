"""One tensor as a method sees it while it plans: shape, parameters, and every model's values to measure.

It knows no method, file or kernel. What is measured of a whole tensor is in measure/.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from automerge.merge.masks import MaskStream
from automerge.merge.plan import Elementwise, Plan
from automerge.merge.sources.source import CPU
from automerge.merge.values import Operand, Values
from automerge.recipe import Setting

Work = Plan | Elementwise


@dataclass(frozen=True)
class SourceView:
    """One source's part of the tensor. `changes` is False where its delta is 0 throughout, known without a look."""

    name: str
    values: Mapping[str, float]  # the per-source parameters
    changes: bool
    stream: MaskStream
    base: Tensor
    load: Callable[[torch.device], Operand] = field(repr=False)

    @cached_property
    def operand(self) -> Operand:
        """What kernels read of this source; an adapter's delta is formed when it is first asked for."""
        return self.load(CPU) if self.changes else Operand(self.base)

    def operand_for(self, device: torch.device) -> Operand:
        """As `operand`; a delta that planning did not ask for is formed on the device that it is needed on."""
        return self.load(device) if self.changes and "operand" not in vars(self) else self.operand

    @property
    def delta(self) -> Values:
        """δ = x − θ."""
        return self._values("delta")

    @property
    def weights(self) -> Values:
        """x."""
        return self._values("weights")

    def _values(self, what: Literal["weights", "delta"]) -> Values:
        key = (self.stream.source, self.stream.tensor, what)
        return Values(what, self.base, self.operand if self.changes else None, key)


@dataclass(frozen=True)
class View:
    """One tensor. `kept` is a store that lives from merge to merge, for measurements of it (thresholds, ranks)."""

    name: str
    shape: tuple[int, ...]
    base: Tensor  # θ, flat, as it is stored
    sources: tuple[SourceView, ...]  # in the recipe's order, which is by name
    values: Mapping[str, float]  # the per-merge parameters
    options: Mapping[str, Setting]
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def n(self) -> int:
        """The number of elements."""
        return self.base.numel()

    @property
    def base_values(self) -> Values:
        """θ."""
        return Values("weights", self.base)

    @property
    def mergekit(self) -> bool:
        """Whether mergekit's semantics are asked for, where they differ from the papers'."""
        return self.options.get("dialect") == "mergekit"

    def active(self) -> list[SourceView]:
        """The sources that take part in a sum of weighted deltas: weight not 0, and something changed."""
        return [source for source in self.sources if source.values["weight"] != 0.0 and source.changes]
