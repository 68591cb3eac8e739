"""Writes the tokenizer of a merge that takes no model's as it is: a union, or another chat template.

A folder is written once, whole, under the cache and named by its content. It knows no weights.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from automerge.errors import SourceError
from automerge.files import cache_folder
from automerge.merge.sources.folder import read_bytes, read_json
from automerge.merge.vocabulary.tokenizers import (
    ADDED,
    FAST,
    FURTHER_TEMPLATES,
    PLAIN,
    SETTINGS,
    SPECIAL,
    TEMPLATE,
    Tokens,
    tokenizer_files,
)

Files = dict[str, bytes]


def files_of(folder: Path) -> Files:
    """The tokenizer's files of a model's folder, by their paths in it."""
    return {name: read_bytes(folder / name) for name in tokenizer_files(folder)}


def with_template(files: Mapping[str, bytes], template: str) -> Files:
    """The files with the chat template in place of any other."""
    others = ("chat_template.json", f"{FURTHER_TEMPLATES}/")
    changed = {name: data for name, data in files.items() if not name.startswith(others)}
    settings = json.loads(changed.get(SETTINGS, b"{}"))
    settings.pop("chat_template", None)
    changed[SETTINGS] = _encoded(settings)
    changed[TEMPLATE] = template.encode()
    return changed


def union_files(own: Tokens, further: Sequence[str], models: Sequence[Tokens], ids: Mapping[str, int]) -> Files:
    """A model's own tokenizer with further tokens, as the first of the models that has one describes it. `ids`: all of
    them.

    A token that is an ordinary one in its model, or new, is matched as it is spelt. Raises SourceError where the
    tokenizers library would give a token another id.
    """
    core = json.loads(own.text)
    described: dict[str, dict[str, Any]] = {}
    for token in further:
        said = next((model.added.get(token, {}) for model in models if token in model.ids), {})
        described[token] = {**PLAIN, **said, "id": ids[token], "content": token}
    core["added_tokens"] = [*core["added_tokens"], *described.values()]
    text = json.dumps(core, ensure_ascii=False)
    found = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    wrong = next((token for token in ids if found.get(token) != ids[token]), None)
    if wrong is not None:
        message = f"the merge's token {wrong!r} would have id {found.get(wrong)}, expected {ids[wrong]}"
        hint = "The ids of the tokenizer taken have holes. Name another, and no rules for tokens it lacks."
        raise SourceError(message, where=str(own.folder), hint=hint)
    kept = (SPECIAL, SETTINGS, TEMPLATE, f"{FURTHER_TEMPLATES}/")
    files = {name: data for name, data in files_of(own.folder).items() if name.startswith(kept)}
    files[FAST] = text.encode()
    settings = json.loads(files.get(SETTINGS, b"{}"))
    settings.pop("auto_map", None)
    if "added_tokens_decoder" in settings:
        listed = {str(entry.pop("id")): entry for entry in described.values()}
        settings["added_tokens_decoder"] = {**settings["added_tokens_decoder"], **listed}
    beside = own.folder / "chat_template.json"
    if beside.is_file() and TEMPLATE not in files:
        settings.setdefault("chat_template", read_json(beside).get("chat_template"))
    files[SETTINGS] = _encoded(settings)
    files.pop(ADDED, None)
    return files


def write_folder(files: Mapping[str, bytes]) -> Path:
    """The folder that holds exactly these files. Raises SourceError where the cache cannot be written."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    folder = cache_folder() / "tokenizers" / digest.hexdigest()[:32]
    if _holds(folder, files):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        for name, data in files.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(data)
        shutil.rmtree(folder, ignore_errors=True)  # torn, or changed by hand
        try:
            os.rename(part, folder)
        except OSError:  # another process was first
            shutil.rmtree(part, ignore_errors=True)
            if not _holds(folder, files):
                raise
    except OSError as error:
        hint = "Set AUTOMERGE_CACHE to a folder that can be written to."
        raise SourceError(f"the tokenizer cannot be written: {error}", where=str(folder), hint=hint) from error
    return folder


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if found != set(files):
        return False
    return all((folder / name).read_bytes() == data for name, data in files.items())


def _encoded(settings: Mapping[str, Any]) -> bytes:
    return json.dumps(settings, indent=2, ensure_ascii=False).encode()
