"""The frame of a recipe with experts: a sparse model's tensors, each offered by the model it comes from.

An expert's tensors are its model's as they are; router rows are those of the experts, in their order. All else is the
dense merge's, under the same names, so that the merge computes it as it does for a dense model.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from automerge.errors import ConfigError
from automerge.merge.frame import Frame, Taken
from automerge.merge.sources.source import CPU, Source
from automerge.merge.sparse.family import FAMILIES, Family, choose_family, sparse_config
from automerge.merge.sparse.layout import Laid, lay_out
from automerge.merge.sparse.rows import read_rows
from automerge.merge.stack import Moved
from automerge.recipe import Mixture, Recipe

WHERE = "mixture"


def sparse(frame: Frame, recipe: Recipe) -> Frame:
    """The frame of the recipe's mixture; `frame` itself where it has none.

    Raises ConfigError where no sparse model of that architecture can be made of these models. Router rows are read when
    they are asked for: SourceError then, where their file is not the recipe's.
    """
    mixture = recipe.mixture
    if mixture is None:
        return frame
    shared = [mixture.shared] if mixture.shared else []
    family = fitting(mixture.architecture, frame.config, len(shared))
    laid = {
        one.name: one
        for one in lay_out(family, frame.names, frame.shapes, len(mixture.experts), len(shared), recipe.base.name)
    }
    owners = {one.name: _owner(one, mixture) for one in laid.values() if one.kind in ("expert", "shared")}
    parts = {name: _part(frame.sources.get(owner), laid[name].origin) for name, owner in owners.items()}
    kept = {name: one.origin for name, one in laid.items() if one.kind == "kept"}
    moved = {
        name: kept | {n: laid[n].origin for n, owner in owners.items() if owner == name and parts[n] == "delta"}
        for name in frame.sources
    }
    under = {name: owner if parts[name] == "values" else recipe.base.name for name, owner in owners.items()}
    return replace(
        frame,
        names=tuple(laid),
        shapes={name: one.shape for name, one in laid.items()},
        config=sparse_config(family, frame.config, len(mixture.experts), mixture.per_token, len(shared)),
        base=_Base(frame, laid, under, mixture),
        sources={name: Moved(source, moved[name]) for name, source in frame.sources.items()},
        takes_part={
            **{name: frozenset({owners[name]} if parts.get(name) == "delta" else ()) for name in laid.keys() - kept},
            **{name: frame.takes_part[origin] for name, origin in kept.items() if origin in frame.takes_part},
        },
        as_is={name: Taken(under.get(name, ""), laid[name].origin) for name in laid.keys() - kept},
    )


def fitting(architecture: str, dense: Mapping[str, Any], shared: int) -> Family:
    """The family of that name, or the first one that fits for "". Raises ConfigError where none does."""
    return choose_family(architecture or None, str(dense.get("model_type")), shared, prompts=True, where=WHERE)


def parameters(frame: Frame, mixture: Mixture) -> tuple[int, int]:
    """Weights in all, and those that a token passes: all but those of the experts it is not sent to."""
    family = next(family for family in FAMILIES if family.name == mixture.architecture)
    sizes = {name: math.prod(shape) for name, shape in frame.shapes.items()}
    whole, routed = sum(sizes.values()), sum(n for name, n in sizes.items() if f".{family.block}.experts." in name)
    return whole, whole - routed * (len(mixture.experts) - mixture.per_token) // len(mixture.experts)


def _owner(laid: Laid, mixture: Mixture) -> str:
    return mixture.experts[laid.number] if laid.kind == "expert" else mixture.shared


def _part(source: Source | None, tensor: str) -> Literal["values", "delta", "none"]:
    """What of a tensor the source holds; none where the base's is the source's too, and of the base itself."""
    if source is None or not source.changes(tensor):
        return "none"
    return "delta" if source.stored(tensor) is None else "values"


class _Base:
    """What lies under each tensor: the dense base's, an expert's own, or the router's rows."""

    def __init__(self, frame: Frame, laid: Mapping[str, Laid], under: Mapping[str, str], mixture: Mixture) -> None:
        """`under`: whose values an expert's tensor is, by name; any but a source's are the base's."""
        self.folder: Path = frame.base.folder
        self.config: dict[str, Any] = frame.base.config
        self._frame, self._laid, self._under, self._mixture = frame, laid, under, mixture

    def changes(self, tensor: str) -> bool:
        """See Source."""
        return False

    def stored(self, tensor: str) -> Tensor | None:
        """See Source."""
        one = self._laid[tensor]
        if one.kind == "zeros":
            return torch.zeros(one.shape)
        if one.kind in ("router", "shared_router"):
            return self._router(one)
        return self._frame.sources.get(self._under.get(tensor, ""), self._frame.base).stored(one.origin)

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """See Source."""
        raise AssertionError("the base is no delta")

    def _router(self, one: Laid) -> Tensor:
        names = self._mixture.experts if one.kind == "router" else (self._mixture.shared,)
        missing = [name for name in names if name not in self._rows]
        if missing:
            known = ", ".join(self._rows)
            raise ConfigError(f"there are no router rows of {missing[0]}; there are of {known}", where=WHERE)
        rows = torch.stack([self._rows[name][one.layer] for name in names])
        if tuple(rows.shape) != one.shape:
            message = f"the router's rows have shape {list(rows.shape)}, expected {list(one.shape)}"
            raise ConfigError(message, where=self._mixture.router.path)
        return rows

    @cached_property
    def _rows(self) -> dict[str, Tensor]:
        return read_rows(self._mixture.router)
