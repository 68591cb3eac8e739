"""Models that may be merged: which of them is the base, and what the others are to it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import torch

from automerge.errors import AutomergeError, SourceError
from automerge.merge.layout import place_of
from automerge.merge.models import open_models
from automerge.merge.movement import Movement, movement
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.folder import ADAPTER_CONFIG, is_adapter, read_config, read_json
from automerge.merge.sources.locate import locate

APART = 0.5  # a source that moved by more of the base's length is hardly a fine-tune of it
AGAINST = -0.1  # a cosine below which two sources pull against each other


@dataclass(frozen=True)
class Family:
    """A base and its fine-tunes. `sources`: a short name → where it is."""

    base: str
    sources: dict[str, str]
    kinds: dict[str, str]
    architecture: str
    layers: int
    dtype: str
    movement: Movement
    assumed: bool = False  # nothing tells which of two full checkpoints is the base

    def said_of(self, source: str) -> str:
        """A few words for a comment."""
        return f"{self.kinds[source]}, moved {100 * self.movement.share(source):.2g}% of the base's length"

    def thirds(self, source: str) -> list[float]:
        """The shares of ‖δ‖² in the first, middle and last third of the layers."""
        squares = [value**2 for value in self.movement.moved[source]]
        edges = [round(part * len(squares) / 3) for part in range(4)]
        total = sum(squares) or 1.0
        return [sum(squares[a:b]) / total for a, b in pairwise(edges)]

    def remarks(self) -> list[str]:
        """What a person should know before searching."""
        found = []
        if self.assumed:
            found.append(
                f"{self.base} is taken for the base, for it was named first: of two full checkpoints either may be it. "
                "Name it with --base, or, where both are fine-tunes, name their base beside them"
            )
        for name in self.sources:
            share = self.movement.share(name)
            if share == 0:
                found.append(f"{name}: equals the base in every layer; it adds nothing to a merge")
            elif share > APART:
                found.append(
                    f"{name}: moved by {100 * share:.0f}% of the base's length; is it a fine-tune of this base?"
                )
        for (one, other), cosines in self.movement.cosines.items():
            mean = sum(cosines) / len(cosines)
            if mean < AGAINST:
                found.append(f"{one} and {other} pull against each other (mean cosine {mean:+.2f}): expect a trade-off")
        return found

    def to_json(self) -> dict[str, Any]:
        """As `init --json` prints it."""
        sources = {
            name: {"path": where, "kind": self.kinds[name], "moved": self.movement.share(name)}
            for name, where in self.sources.items()
        }
        facts = {"architecture": self.architecture, "layers": self.layers, "dtype": self.dtype}
        return {"base": self.base, "sources": sources, **facts, "remarks": self.remarks()}


def family_of(models: Sequence[str], base: str | None = None) -> Family:
    """Finds the base (unless it is named) and opens all. Raises SourceError where there is none, or nothing to merge.

    The base is what the adapters say they were made for, else the full checkpoint to which the others are closest in
    sum: fine-tunes of one base lie further from each other than from it.
    """
    if len(set(models)) < len(models):
        raise SourceError("a model is named twice", where=", ".join(models))
    folders = {model: locate(model) for model in models}
    full = [model for model, folder in folders.items() if not is_adapter(folder)]
    for model in full:
        read_config(folders[model])  # a folder without a model is told as that, and not as the only model
    assumed = False
    if base is None:
        said = _said_by_adapters(folders, full)
        base, assumed = said or _closest(full, folders), not said and len(full) == 2
    rest = [model for model in models if model != base]
    if not rest:
        raise SourceError("nothing to merge: name at least one fine-tune or adapter beside the base", where=base)
    names = short_names(rest)
    opened = open_models(base, names)
    kinds = {name: "adapter" if is_adapter(folders[where]) else "full checkpoint" for name, where in names.items()}
    architecture = str((opened.config.get("architectures") or [opened.config.get("model_type", "?")])[0])
    return Family(base, names, kinds, architecture, opened.n_layers, opened.dtype, movement(opened), assumed)


def _said_by_adapters(folders: dict[str, Path], full: Sequence[str]) -> str | None:
    """The full checkpoint that the adapters name, if they name one, and the same."""
    named = {
        str(read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path"))
        for model, folder in folders.items()
        if model not in full
    }
    if len(named) > 1:
        raise SourceError(f"the adapters were made for different bases: {', '.join(sorted(named))}", where="init")
    for name in named:
        found = [model for model in full if model == name or Path(name).name == folders[model].name]
        if found:
            return found[0]
        if not full:
            try:
                locate(name)
            except AutomergeError as error:
                hint = "Name the base with --base."
                raise SourceError(f"the adapters' base is not found: {name}", where="init", hint=hint) from error
            return name
    return None


def _closest(full: Sequence[str], folders: dict[str, Path]) -> str:
    if not full:
        raise SourceError("no base among the models", where="init", hint="Name it with --base.")
    if len(full) < 3:
        return full[0]  # of two either may be the base; the first is taken
    checkpoints = {model: Checkpoint(folders[model]) for model in full}
    total = dict.fromkeys(full, 0.0)
    for one, other in combinations(full, 2):
        apart = _apart(checkpoints[one], checkpoints[other])
        total[one] += apart
        total[other] += apart
    return min(full, key=lambda model: total[model])


def _apart(one: Checkpoint, other: Checkpoint) -> float:
    """Root of the summed squares of the differences of one attention tensor a layer, its first million elements."""
    total = 0.0
    seen: set[int | None] = set()
    for name, shape in one.shapes.items():
        place = place_of(name)
        if place.module != "attention" or place.layer in seen or len(shape) < 2 or other.shapes.get(name) != shape:
            continue
        seen.add(place.layer)
        a, b = (model.stored(name).reshape(-1)[: 1 << 20].float() for model in (one, other))
        total += float((a - b).square().sum(dtype=torch.float64))
    return total**0.5 if seen else float("inf")


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Short names: the last part of each path, or of each hub id without its @revision."""
    parts = [re.split(r"(?<=[^/])@", model)[0].rstrip("/").split("/")[-1] for model in models]
    last = [re.sub(r"[^A-Za-z0-9_.-]", "-", part) or "model" for part in parts]
    if len(set(last)) < len(last):
        last = [f"{name}-{number}" for number, name in enumerate(last, start=1)]
    return dict(zip([name if name not in ("base", "union") else f"{name}-model" for name in last], models, strict=True))
