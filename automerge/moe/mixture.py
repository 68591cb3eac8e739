"""The sparse model: its tensors one after another, each made when it is asked for, its config, its size.

Everything but the feed-forward parts is the base's. It knows no files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.config import locate
from automerge.errors import MergeError
from automerge.merge import Merge
from automerge.merge.check import OUTPUT_DTYPES
from automerge.merge.checksum import ModelSum
from automerge.merge.kernels.cpu_sum import tensor_sum
from automerge.merge.sparse.family import Family, choose_family, sparse_config
from automerge.merge.sparse.layout import Kind, lay_out, projection
from automerge.moe.config import Expert, MoeConfig, moved
from automerge.moe.experts import open_base, open_expert
from automerge.router.gates import RANDOM, Tell, check_speaks, gates
from automerge.router.part import Part
from automerge.router.prompts import wanted_of


@dataclass(frozen=True)
class Piece:
    """A tensor of the sparse model, not yet made."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


class Mixture:
    """A sparse model to be written, see export.weights.Weights."""

    def __init__(
        self,
        config: MoeConfig,
        family: Family,
        base: Part,
        experts: Sequence[Part],
        shared: Sequence[Part],
        find_rows: Callable[[], Tensor],
    ) -> None:
        """`find_rows` gives the router's rows, fp32 [layers, experts, hidden size], a gated shared expert's last.

        Raises ConfigError or SourceError where a model cannot be merged as its recipe says, ConfigError where the
        family has no place for one of the base's tensors."""
        self.config, self.family, self.base, self._find_rows = config, family, base, find_rows
        self.experts, self.shared = tuple(experts), tuple(shared)
        self._dtype_name = config.dtype or base.models.dtype
        self.dtype = OUTPUT_DTYPES[self._dtype_name]
        self._pieces = list(self._lay_out())
        self.names = tuple(piece.name for piece in self._pieces)
        self.shapes = {piece.name: piece.shape for piece in self._pieces}
        self._sum = ModelSum()

    @property
    def parameters(self) -> int:
        """Weights in all."""
        return sum(map(prod, self.shapes.values()))

    @property
    def active(self) -> int:
        """Weights that a token passes: all but those of the experts it is not sent to."""
        expert = sum(prod(shape) for name, shape in self._merge.shapes.items() if projection(name))
        return self.parameters - expert * (len(self.experts) - self.config.experts_per_token)

    @property
    def bytes(self) -> int:
        return self.parameters * self.dtype.itemsize

    @property
    def checksum(self) -> str:
        return self.sums.hexdigest()

    @property
    def sums(self) -> ModelSum:
        """The checksums of what `tensors` gave. Raises MergeError before it is exhausted."""
        if len(self._sum.tensors) != len(self.names):
            raise MergeError("the checksum is known when every tensor has been made")
        return self._sum

    @property
    def digests(self) -> dict[str, Any]:
        """What it is made of, by part: path → content digest."""
        return {
            "base": self.base.digests,
            "experts": [part.digests for part in self.experts],
            "shared_experts": [part.digests for part in self.shared],
        }

    def config_json(self) -> dict[str, Any]:
        """The sparse model's config.json."""
        own = self.base.models.frame(self.base.recipe).config
        found = sparse_config(self.family, own, len(self.experts), self.config.experts_per_token, len(self.shared))
        return {**found, "dtype": self._dtype_name}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) in the order of `names`. Raises MergeError where values are not finite."""
        self._sum = ModelSum()
        for piece in self._pieces:
            tensor = piece.make().to(self.dtype).contiguous()
            if not bool(torch.isfinite(tensor).all()):
                raise MergeError(f"values that {self._dtype_name} cannot hold", where=piece.name)
            self._sum.add(tensor_sum(piece.name, tensor))
            yield piece.name, tensor

    def give_back(self) -> None:
        """Unmaps what was read of the models."""
        for part in (self.base, *self.experts, *self.shared):
            part.models.give_back()

    @cached_property
    def rows(self) -> Tensor:
        """The router's, found at the first call. Raises MergeError."""
        return self._find_rows()

    @cached_property
    def _merge(self) -> Merge:
        return self.base.merge(self._dtype_name)

    def _lay_out(self) -> Iterator[Piece]:
        experts = [_Feeder(p, e, self._dtype_name) for p, e in zip(self.experts, self.config.experts, strict=True)]
        shared = [_Feeder(p, e, self._dtype_name) for p, e in zip(self.shared, self.config.shared_experts, strict=True)]
        dense = self._merge
        for one in lay_out(self.family, dense.names, dense.shapes, len(experts), len(shared), self.base.given):
            make: dict[Kind, Callable[[], Tensor]] = {
                "kept": partial(dense.merge_tensor, one.origin),
                "zeros": partial(torch.zeros, one.shape),
                "router": partial(self._rows_of, one.layer, slice(len(experts))),
                "shared_router": partial(self._rows_of, one.layer, slice(len(experts), None)),
            }
            if one.kind in ("expert", "shared"):
                feeder = (experts if one.kind == "expert" else shared)[one.number]
                yield Piece(one.name, one.shape, partial(feeder.tensor, one.origin))
            else:
                yield Piece(one.name, one.shape, make[one.kind])

    def _rows_of(self, layer: int, experts: slice) -> Tensor:
        return self.rows[layer, experts]


class _Feeder:
    """Where an expert's tensors come from."""

    def __init__(self, part: Part, expert: Expert, dtype: str) -> None:
        self._part, self._scale = part, expert.residual_scale
        self._merge = part.merge(dtype)
        self._exact = part.merge("float32") if self._scale is not None else self._merge  # rounded once, when scaled

    def tensor(self, name: str) -> Tensor:
        if self._scale is None or projection(name) != "down_proj":
            return self._part.tensor(self._merge, name)
        return self._part.tensor(self._exact, name) * self._scale


def open_mixture(
    config: MoeConfig,
    folder: Path,
    *,
    seed: int = 0,
    tell: Tell = lambda done, total: None,
    where: str = "config",
    rows: Callable[[Family], Tensor] | None = None,
) -> Mixture:
    """Opens the models. Asks no model yet: `tell` hears of that when the rows are found. Relative paths start
    at `folder`; `seed` is that of random rows and of skills' items. With `rows` the router's are known, and no prompt
    is read. Raises ConfigError, SourceError, SkillError."""
    config = moved(config, lambda name: locate(name, folder))
    base = open_base(config.base_model, folder)
    model_type = str(base.models.config.get("model_type"))
    prompts = any(expert.has_prompts for expert in config.shared_experts)
    asked = config.gate_mode != RANDOM
    family = choose_family(config.architecture, model_type, len(config.shared_experts), prompts, where, needed=asked)
    experts = [open_expert(expert.source_model, base, folder) for expert in config.experts]
    shared = [open_expert(expert.source_model, base, folder) for expert in config.shared_experts]
    if rows is not None:
        return Mixture(config, family, base, experts, shared, partial(rows, family))
    check_speaks(base, config.gate_mode)
    routed = [*config.experts, *(config.shared_experts if family.shared_is_gated else ())]
    wanted = [wanted_of(expert, folder, seed) for expert in routed]
    return Mixture(config, family, base, experts, shared, lambda: gates(base, wanted, config.gate_mode, seed, tell))
