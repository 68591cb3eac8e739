"""Rows of a skill: a JSONL, JSON or Parquet file, or a hub dataset → mappings. It knows no templates and no splits.

Local JSON is read as it is written (types kept, mistakes named by line) and nothing is cached beside it; Parquet and
the hub go through `datasets`.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from automerge.errors import SkillError
from automerge.evals.skill import Data

Row = dict[str, Any]
MOST_LEVELS = 100  # of a row: no item needs them, and what passes a row on cannot take a thousand


def load_rows(data: Data) -> list[Row]:
    """Every row, in the file's order. Raises SkillError where the data is missing, unreadable or empty."""
    if data.path is None:
        rows, where = _from_hub(data), str(data.hub)
    else:
        path, where = Path(data.path), data.path
        if not os.path.isfile(path):
            what = "expected a file, got a folder" if os.path.isdir(path) else "no such file"
            raise SkillError(what, where=where, hint="data.path is relative to the skill's own YAML file.")
        if path.suffix not in (".jsonl", ".json", ".parquet"):
            raise SkillError(f"expected .jsonl, .json or .parquet, got {path.suffix or 'no suffix'}", where=where)
        rows = _from_parquet(path) if path.suffix == ".parquet" else _from_json(path)
    if not rows:
        raise SkillError("the dataset is empty", where=where)
    kept = [row for row in rows if all(row.get(field) == value for field, value in data.where.items())]
    if not kept:
        wanted = ", ".join(f"{field} = {value!r}" for field, value in data.where.items())
        raise SkillError(f"none of {len(rows)} rows has {wanted} (data.where)", where=where)
    return _joined(kept, data) if data.join is not None else kept


def _joined(rows: list[Row], data: Data) -> list[Row]:
    """The rows with what the file `data.join` adds; their own fields stay, and a row may have no match there."""
    others: dict[str, Row] = {}
    field = str(data.id)
    for number, row in enumerate(load_rows(Data(path=data.join)), start=1):
        if field not in row:
            raise SkillError(f"row {number}: no field {field!r} (data.id) to join by", where=str(data.join))
        others[str(row[field])] = row  # as items are told apart: 81 is "81", too
    return [{**others.get(str(row.get(field)), {}), **row} for row in rows]


def _from_json(path: Path) -> list[Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SkillError(f"line {line}: not valid UTF-8", where=str(path), hint="Save the file as UTF-8.") from error
    except OSError as error:
        raise SkillError(f"cannot read: {error.strerror}", where=str(path)) from error
    if path.suffix == ".json" and text.lstrip().startswith("["):
        return [_mapping(row, f"{path}: item {index}") for index, row in enumerate(_parse(text, str(path)), start=1)]
    return [
        _mapping(_parse(line, f"{path}: line {number}"), f"{path}: line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SkillError(f"not valid JSON: {error}", where=where) from error


def _mapping(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise SkillError(f"expected an object with the item's fields, got {type(row).__name__}", where=where)
    if _levels(row, MOST_LEVELS + 1) > MOST_LEVELS:
        raise SkillError(f"expected at most {MOST_LEVELS} levels of lists and objects", where=where)
    check_text(row, where)
    return row


def _levels(value: Any, most: int) -> int:
    """How deep lists and objects stand in each other, counted up to `most`."""
    layer = [value]
    for level in range(most):
        inner = [list(one.values()) if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)]
        if not inner:
            return level
        layer = [each for one in inner for each in one]
    return most


def check_text(value: Any, where: str) -> None:
    """Raises SkillError where a text in a value of JSON cannot be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        message = "holds half a character (a lone surrogate such as \\ud83d), which is no text"
        raise SkillError(message, where=where, hint="Save the file again with whole characters.") from error


def _from_parquet(path: Path) -> list[Row]:
    import datasets  # seconds to import, and most skills are JSONL

    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory(prefix="automerge-rows-") as cache:
            rows = datasets.load_dataset(
                "parquet", data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True
            )
            return [dict(row) for row in rows]
    except Exception as error:  # datasets raises many kinds, most of them its own
        raise SkillError(f"not a readable Parquet file: {_first_line(error)}", where=str(path)) from error


def _from_hub(data: Data) -> list[Row]:
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(data.hub, data.config, split=data.split, revision=data.revision)
        return [dict(row) for row in rows]
    except Exception as error:
        raise SkillError(
            f"the hub dataset cannot be loaded (config {data.config}, split {data.split}): {_first_line(error)}",
            where=str(data.hub),
            hint="Without network, give the items as a file: data: {path: items.jsonl}.",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
