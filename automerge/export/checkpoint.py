"""Writes a merge as a Hugging Face folder: complete and verified under its final name, or not there at all.

Weights are merged a second time and written as they come, into `<out>.part` beside the target; read back, their
checksum must be that of the merge, and of what was scored. Only then the folder is renamed. It knows no study.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from automerge.errors import ConfigError, ExportError, SourceError
from automerge.export.safetensors_stream import SafetensorsStream
from automerge.export.verify import PROVENANCE, RECIPE, stored_sums
from automerge.merge import Merge, Models
from automerge.merge.mergekit.write import to_mergekit
from automerge.merge.sources.folder import INDEX, SINGLE, read_json
from automerge.merge.vocabulary.merged import GENERATION
from automerge.merge.vocabulary.tokenizers import TOKENIZER_FILES
from automerge.recipe import Recipe
from automerge.records import Applied
from automerge.study.made_with import made_with

MAX_SHARD_BYTES = 2_000_000_000
HELD_BYTES = 16 << 20  # merged tensors written before what was read for them is given back
MERGEKIT = "mergekit_config.yml"  # the recipe for mergekit, where mergekit can express it
Progress = Callable[[str], None]  # takes one line that says what is being done


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
    with _part_of(out) as part:
        shards = _shards(merge, max_shard_bytes)
        _write_weights(merge, models, part, shards, tell)
        if expected_checksum is not None and merge.checksum != expected_checksum:
            message = f"the merge's checksum is {merge.checksum}, expected {expected_checksum}: nothing was written"
            raise ExportError(message, where=str(out), hint="What would ship is not what was scored. Score it anew.")
        _write_small_files(recipe, models, part, extra_files or {})
        about = {"checksum": merge.checksum, "recipe": recipe.hash, "written_with": made_with(), **(provenance or {})}
        _write(part / PROVENANCE, json.dumps(about, indent=2))
        tell("verifying")
        _verify(part, merge.checksum)
        _finish(part, out)
    return Applied(merge.checksum, time.perf_counter() - begun, merge.bytes)


@contextmanager
def _part_of(out: Path) -> Iterator[Path]:
    """The folder to write into; removed again unless it was renamed. File errors become ExportError."""
    part = out.with_name(out.name + ".part")
    made = False
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ExportError("exists already, and is not an empty folder", where=str(out), hint="Name another place.")
        out.parent.mkdir(parents=True, exist_ok=True)
        if part.exists():
            hint = "Another export is writing there, or one was killed; if so, remove it."
            raise ExportError("exists already", where=str(part), hint=hint)
        part.mkdir()
        made = True
        yield part
    except OSError as error:
        raise _unwritable(error, out) from error
    finally:
        if made:
            shutil.rmtree(part, ignore_errors=True)


def _unwritable(error: OSError, out: Path) -> ExportError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free space, or export elsewhere."
        return ExportError("the disk is full; nothing was kept", where=str(out), hint=hint)
    return ExportError(f"cannot be written: {error.strerror or error}", where=str(out), hint="Name another place.")


def _shards(merge: Merge, limit: int) -> dict[str, list[str]]:
    """File name → its tensors, in merge order; a shard holds at least one tensor."""
    groups: list[list[str]] = [[]]
    size = 0
    for name in merge.names:
        need = merge.dtype.itemsize
        for extent in merge.shapes[name]:
            need *= extent
        if groups[-1] and size + need > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += need
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {f"model-{n:05d}-of-{len(groups):05d}.safetensors": names for n, names in enumerate(groups, 1)}


def _write_weights(merge: Merge, models: Models, part: Path, shards: Mapping[str, list[str]], tell: Progress) -> None:
    tensors = merge.tensors()
    read = 0
    for file, names in shards.items():
        tell(f"writing {file}")
        with SafetensorsStream(part / file, {name: merge.shapes[name] for name in names}, merge.dtype) as stream:
            for _ in names:
                name, tensor = next(tensors)
                stream.write(name, tensor)
                read += tensor.nbytes
                if read >= HELD_BYTES:
                    models.give_back()
                    read = 0
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": merge.bytes},
            "weight_map": {name: file for file, names in shards.items() for name in names},
        }
        _write(part / INDEX, json.dumps(index, indent=2))


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
    folder = models.tokenizer_folder(recipe)
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            _copy_without_code(folder / name, part / name)
    for name, text in extra_files.items():
        if Path(name).name != name or (part / name).exists():
            raise ExportError(f"an extra file may not be called {name!r}", where=str(part))
        _write(part / name, text)


def _copy_without_code(source: Path, target: Path) -> None:
    """Copies a tokenizer's file; an auto_map, which would have the reader run the model's own code, is left out."""
    shutil.copyfile(source, target)
    if source.name == "tokenizer_config.json":
        settings = read_json(source)
        if settings.pop("auto_map", None) is not None:
            _write(target, json.dumps(settings, indent=2))


def _verify(part: Path, checksum: str) -> None:
    """Reads the weights back through the safetensors library, and recomputes the checksum."""
    try:
        sums = stored_sums(part)
    except SourceError as error:
        raise ExportError(f"what was written cannot be read: {error.message}", where=str(part)) from error
    if sums.hexdigest() != checksum:
        message = f"read back, the weights' checksum is {sums.hexdigest()}, expected {checksum}"
        raise ExportError(message, where=str(part), hint="The disk or its memory is at fault. Export elsewhere.")


def _finish(part: Path, out: Path) -> None:
    """Flushes and renames; an empty folder of that name gives way."""
    for path in part.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if out.exists():
        out.rmdir()
    os.replace(part, out)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and need not be
        folder = os.open(out.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
