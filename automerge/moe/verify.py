"""Whether a mixture's folder holds what its models give. The router's rows are taken as they are: they come from what
the base computes, which another machine rounds in other places."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.config import validate
from automerge.errors import ExportError, SourceError
from automerge.export.verify import PROVENANCE, Verified, compare, held_sums
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sparse.family import Family
from automerge.moe.config import MoeConfig, moved
from automerge.moe.mixture import open_mixture
from automerge.moe.write import CONFIG


def is_mixture(folder: Path) -> bool:
    """Whether `automerge moe` wrote the folder."""
    return (folder / CONFIG).is_file()


def verify_mixture(folder: Path, paths: Mapping[str, str]) -> Verified:
    """Makes the mixture's tensors again. `paths`: a model as provenance.json names it → where it lies now.

    Raises ExportError where a tensor, or the checksum that was recorded, is another; SourceError where a model is not
    found or its content is no longer what was used.
    """
    begun = time.perf_counter()
    about = _about(folder)
    config = validate(MoeConfig, about["config"], str(folder / PROVENANCE))
    named: set[str] = set()

    def place(name: str) -> str:
        named.add(name)
        return paths.get(name, name)

    config = moved(config, place)
    for name in paths:
        if name not in named:
            raise SourceError(f"the mixture has no model {name!r}", hint=f"It has: {', '.join(sorted(named))}.")
    held, recorded = held_sums(folder)
    mixture = open_mixture(config, folder, rows=lambda family: _rows(Checkpoint(folder), family))
    _check_content(about["models"], mixture.digests, folder)
    for _ in mixture.tensors():
        mixture.give_back()
    compare(folder, held.tensors, mixture.sums.tensors)
    return Verified(held.hexdigest(), len(mixture.names), recorded, time.perf_counter() - begun)


def _about(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["config"], found["models"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"is no record of a mixture: {error!r}", where=str(path)) from error
    return found


def _rows(written: Checkpoint, family: Family) -> Tensor:
    """fp32 [layers, experts, hidden size], as mixture.Mixture takes them."""
    rows: list[Tensor] = []
    while (name := family.router_tensor(len(rows))) in written.names:
        parts = [written.stored(name)]
        if family.shared_is_gated:
            parts.append(written.stored(family.shared_router_tensor(len(rows))))
        rows.append(torch.cat(parts).to(torch.float32))
    return torch.stack(rows)


def _check_content(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """The models' content, whatever their paths."""
    for kind in now:
        before, after = ([parts] if isinstance(parts, dict) else parts for parts in (then.get(kind, []), now[kind]))
        if len(before) != len(after):
            message = f"its config has {len(after)} {kind}, but {len(before)} were recorded as used"
            hint = "One of the two was edited: `automerge moe` on the config writes both anew."
            raise ExportError(message, where=str(folder / PROVENANCE), hint=hint)
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if list(old.values()) != list(new.values()):
                what = kind if kind == "base" else f"{kind}.{number}"
                message = f"{what} is no longer what the mixture was made of: {', '.join(new)}"
                hint = "Say where the right one lies: --model NAME=PATH."
                raise SourceError(message, where=str(folder), hint=hint)
