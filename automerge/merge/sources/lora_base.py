"""Whether an adapter was made for this base, as far as that can be known for certain. It reads no adapter tensor.

A path in `base_model_name_or_path` says nothing by itself: the same base lies in many places. But where it is a folder
on this machine, its config.json must agree with the base's in the fields that give a model its shape; and where it is
a repository of the hub, and the base came from there, it must be the same one.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automerge.errors import SourceError

SHAPE_FIELDS = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ANOTHER_BASE = "Was this adapter made for another base?"


def check_named_base(named: object, base_config: Mapping[str, Any], base_folder: Path, where: str) -> None:
    """Raises SourceError, with both folders and values, where the folder named is of a differently shaped model."""
    if not isinstance(named, str) or not named:
        return
    ours = _hub_id(base_folder)
    if ours and HUB_ID.fullmatch(named) and not Path(named).exists() and named.lower() != ours.lower():
        message = f"base_model_name_or_path: expected the base, {ours}, got {named}"
        hint = "If both are the same weights, write the base's name there. " + ANOTHER_BASE
        raise SourceError(message, where=where, hint=hint)
    path = Path(named).expanduser() / "config.json"
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # a hub id, a folder of another machine, or nothing that tells
    if not isinstance(theirs, dict):
        return
    for key in SHAPE_FIELDS:
        if key in theirs and key in base_config and theirs[key] != base_config[key]:
            message = (
                f"base_model_name_or_path: {named} has {key} {theirs[key]}, but the base, {base_folder}, has "
                f"{base_config[key]}"
            )
            raise SourceError(message, where=where, hint=ANOTHER_BASE)


def _hub_id(folder: Path) -> str:
    """OWNER/NAME of a folder in the hub's cache, models--OWNER--NAME; "" for any other."""
    found = next((part for part in reversed(folder.parts) if part.startswith("models--")), "")
    return found.removeprefix("models--").replace("--", "/", 1)
