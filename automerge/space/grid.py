"""How one parameter spreads over layers and modules: from a few suggested numbers to one value a layer and module.

Notation: L layers, numbered 0 … L−1; a cell is one suggested number, an anchor its place along the layers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from automerge.config import Groups
from automerge.errors import ConfigError
from automerge.recipe import MODULES

ALL = "all"


@dataclass(frozen=True)
class Grid:
    """The cells of one parameter: anchors × modules. `label` of a cell ends the name of an Optuna parameter."""

    groups: Groups
    modules: tuple[str, ...]  # ("all",) or MODULES
    n_layers: int

    @property
    def anchors(self) -> tuple[str, ...]:
        """The names along the layers: runs `0-9` (stop exclusive) or knots `knot0`, …; one empty name for `whole`."""
        if self.groups.kind == "whole":
            return ("",)
        if self.groups.kind == "knots":
            return tuple(f"knot{index}" for index in range(self.groups.count))
        return tuple(f"{start}-{stop}" for start, stop in self._runs())

    def labels(self) -> list[str]:
        """One label a cell, layers first, e.g. `0-9.attention`; empty for the single cell of a whole model."""
        return [_label(anchor, module) for anchor in self.anchors for module in self.modules]

    def spread(self, cells: Mapping[str, float]) -> Callable[[int, str], float]:
        """The value at (layer, module), from one number a label."""

        def value(layer: int, module: str) -> float:
            kind = module if self.modules != (ALL,) else ALL
            if self.groups.kind != "knots":
                return cells[_label(self.anchors[self._run_of(layer)], kind)]
            position = layer * (self.groups.count - 1) / max(self.n_layers - 1, 1)
            below = min(int(position), self.groups.count - 2)
            left, right = (cells[_label(f"knot{below + step}", kind)] for step in (0, 1))
            return left + (right - left) * (position - below)

        return value

    def cells(self) -> list[tuple[str, range, str]]:
        """(label of a cell, the layers it stands for, its module or ALL); a knot stands for those nearest to it."""
        if self.groups.kind == "knots":
            count = self.groups.count
            edges = [round((index - 0.5) * self.n_layers / (count - 1)) for index in range(1, count)]
            runs = list(pairwise([0, *edges, self.n_layers]))
        else:
            runs = self._runs()
        return [
            (_label(anchor, module), range(start, max(stop, start + 1)), module)
            for anchor, (start, stop) in zip(self.anchors, runs, strict=True)
            for module in self.modules
        ]

    def _runs(self) -> list[tuple[int, int]]:
        count = {"whole": 1, "layers": self.n_layers}.get(self.groups.kind, self.groups.count)
        edges = [round(index * self.n_layers / count) for index in range(count + 1)]
        return list(pairwise(edges))

    def _run_of(self, layer: int) -> int:
        return next(index for index, (start, stop) in enumerate(self._runs()) if start <= layer < stop)


def make_grid(groups: Groups, modules: str, n_layers: int, *, where: str) -> Grid:
    """Raises ConfigError where more blocks or knots are asked for than the model has layers."""
    if groups.kind in ("blocks", "knots") and groups.count > n_layers:
        raise ConfigError(f"{groups.kind}: {groups.count} asked for, but the model has {n_layers} layers", where=where)
    return Grid(groups, MODULES if modules == "split" else (ALL,), n_layers)


def _label(anchor: str, module: str) -> str:
    return ".".join(part for part in (anchor, "" if module == ALL else module) if part)
