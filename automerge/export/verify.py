"""Whether an exported folder holds what its recipe gives: the sources are merged again, and every tensor compared."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from automerge.errors import ExportError, SourceError
from automerge.merge import Merge
from automerge.merge.checksum import ModelSum
from automerge.merge.kernels.cpu_sum import tensor_sum
from automerge.merge.models import models_of
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sparse.rows import ROWS
from automerge.recipe import ModelRef, Recipe, read_recipe, with_router

RECIPE = "recipe.json"
PROVENANCE = "provenance.json"  # what the export was made from and with; `checksum` is that of its weights


@dataclass(frozen=True)
class Verified:
    """A folder that holds what its recipe gives. `recorded` says whether provenance.json named the checksum too."""

    checksum: str
    tensors: int
    recorded: bool
    seconds: float


def verify(folder: Path, paths: Mapping[str, str]) -> Verified:
    """Merges the folder's recipe again. `paths`: model name → where it lies now, if not where the recipe says.

    Raises ExportError where a tensor, or the checksum that was recorded, is another; SourceError where a model is not
    found or its content is no longer what was merged.
    """
    begun = time.perf_counter()
    recipe = with_router(_moved(read_recipe(folder / RECIPE), paths), folder / ROWS)
    held, recorded = held_sums(folder)
    models = models_of(recipe)
    merge = Merge(recipe, models)
    given = ModelSum()
    for _ in merge.tensors():
        models.give_back()
    for tensor in merge.totals:
        given.add(tensor)
    compare(folder, held.tensors, given.tensors)
    return Verified(held.hexdigest(), len(merge.names), recorded, time.perf_counter() - begun)


def held_sums(folder: Path) -> tuple[ModelSum, bool]:
    """The checksums of a folder's weights, and whether its provenance.json recorded them. Raises ExportError where it
    recorded another."""
    held = stored_sums(folder)
    checksum, recorded = held.hexdigest(), _recorded(folder)
    if recorded is not None and recorded != checksum:
        message = f"{PROVENANCE} records checksum {recorded}, but the weights have {checksum}"
        raise ExportError(message, where=str(folder), hint="The weights were changed after the export.")
    return held, recorded is not None


def stored_sums(folder: Path) -> ModelSum:
    """The checksums of a checkpoint's weights, read through the safetensors library."""
    written = Checkpoint(folder)
    sums = ModelSum()
    for name in written.names:
        sums.add(tensor_sum(name, written.stored(name)))
        written.give_back()
    return sums


def _moved(recipe: Recipe, paths: Mapping[str, str]) -> Recipe:
    known = [ref.name for ref in (recipe.base, *recipe.sources)]
    for name in paths:
        if name not in known:
            raise SourceError(f"the recipe has no model named {name!r}", hint=f"It has: {', '.join(known)}.")

    def moved(ref: ModelRef) -> ModelRef:
        return replace(ref, path=paths.get(ref.name, ref.path))

    return replace(recipe, base=moved(recipe.base), sources=tuple(moved(ref) for ref in recipe.sources))


def _recorded(folder: Path) -> str | None:
    path = folder / PROVENANCE
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["checksum"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"is no record of an export: {error!r}", where=str(path)) from error


def compare(folder: Path, held: Mapping[str, str], merged: Mapping[str, str]) -> None:
    """Raises ExportError unless both are the same tensors: what the folder holds, and what is merged anew."""
    missing, extra = sorted(set(merged) - set(held)), sorted(set(held) - set(merged))
    other = [name for name in merged if name in held and merged[name] != held[name]]
    if not (missing or extra or other):
        return
    parts = [
        f"{len(names)} {one if len(names) == 1 else several} (the first: {names[0]})"
        for names, one, several in (
            (other, "differs", "differ"),
            (missing, "is missing", "are missing"),
            (extra, "is unexpected", "are unexpected"),
        )
        if names
    ]
    message = f"of {len(merged)} tensors that its sources give, {', '.join(parts)}"
    raise ExportError(message, where=str(folder), hint="The weights are not those of what is described beside them.")
