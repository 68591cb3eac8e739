"""Writes a merge as a Hugging Face folder: complete and verified under its final name, or not there at all.

Weights are merged a second time and written as they come, into `<out>.part` beside the target; read back, their
checksum must be that of the merge, and of what was scored. Only then the folder is renamed. It knows no study.
"""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automerge.errors import ConfigError, ExportError
from automerge.export.folder import finish, part_of
from automerge.export.verify import PROVENANCE, RECIPE
from automerge.export.weights import MAX_SHARD_BYTES, Progress, prove, write_weights
from automerge.merge import Merge, Models
from automerge.merge.mergekit.write import to_mergekit
from automerge.merge.sources.folder import read_json
from automerge.merge.sparse.rows import ROWS
from automerge.merge.vocabulary.merged import GENERATION
from automerge.merge.vocabulary.tokenizers import tokenizer_files
from automerge.recipe import Recipe
from automerge.records import Applied
from automerge.study.made_with import made_with

MERGEKIT = "mergekit_config.yml"  # the recipe for mergekit, where mergekit can express it


def write_checkpoint(
    recipe: Recipe,
    models: Models,
    out: Path,
    *,
    expected_checksum: str | None,
    provenance: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> Applied:
    """Merges into the folder `out`, which must not exist or be empty. `provenance` is what provenance.json says beside
    the checksum and what wrote it; `extra_files` are name → text, e.g. README.md.

    Raises ExportError where it cannot be written, or where the checksum is not the expected one (None expects none);
    ConfigError, SourceError or MergeError as the merge does. Whatever is raised, nothing is left behind.
    """
    begun = time.perf_counter()
    merge = Merge(recipe, models)
    tell = progress or (lambda line: None)
    for note in models.notes(recipe):
        tell(note)
    with part_of(out) as part:
        write_weights(merge, part, models.give_back, tell, max_shard_bytes)
        if expected_checksum is not None and merge.checksum != expected_checksum:
            message = f"the merge's checksum is {merge.checksum}, expected {expected_checksum}: nothing was written"
            raise ExportError(message, where=str(out), hint="What would ship is not what was scored. Score it anew.")
        _write_small_files(recipe, models, part, extra_files or {})
        about = {"checksum": merge.checksum, "recipe": recipe.hash, "written_with": made_with(), **(provenance or {})}
        _write(part / PROVENANCE, json.dumps(about, indent=2))
        tell("verifying")
        prove(part, merge.checksum)
        finish(part, out)
    return Applied(merge.checksum, time.perf_counter() - begun, merge.bytes)


def _write_small_files(recipe: Recipe, models: Models, part: Path, extra_files: Mapping[str, str]) -> None:
    config = {
        key: value for key, value in models.frame(recipe).config.items() if key not in ("auto_map", "torch_dtype")
    }
    config["dtype"] = recipe.dtype
    _write(part / "config.json", json.dumps(config, indent=2))
    _write(part / RECIPE, recipe.to_json())
    with suppress(ConfigError):  # recipe.json says it all; this is for those who use mergekit
        _write(part / MERGEKIT, to_mergekit(recipe, models))
    generation = models.generation_config(recipe)
    if generation is not None:
        _write(part / GENERATION, json.dumps(generation, indent=2))
    copy_tokenizer(models.tokenizer_folder(recipe), part)
    if recipe.mixture is not None:
        shutil.copyfile(recipe.mixture.router.path, part / ROWS)
    for name, text in extra_files.items():
        if Path(name).name != name or (part / name).exists():
            raise ExportError(f"an extra file may not be called {name!r}", where=str(part))
        _write(part / name, text)


def copy_tokenizer(folder: Path, part: Path) -> None:
    """Its files, as they are but for code of the model's own."""
    for name in tokenizer_files(folder):
        (part / name).parent.mkdir(exist_ok=True)
        _copy_without_code(folder / name, part / name)


def _copy_without_code(source: Path, target: Path) -> None:
    """Copies a tokenizer's file; an auto_map, which would have the reader run the model's own code, is left out."""
    shutil.copyfile(source, target)
    if source.name == "tokenizer_config.json":
        settings = read_json(source)
        if settings.pop("auto_map", None) is not None:
            _write(target, json.dumps(settings, indent=2))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
