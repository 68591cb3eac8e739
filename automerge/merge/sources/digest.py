"""A model's content digest: what its weights are, wherever they lie. The same pass refuses values that are not finite.

    digest = sha256 of the lines "{file name}\\0{sha256 of the file}\\n", sorted by file name, 64 hex digits
over the safetensors files, and adapter_config.json for an adapter. It knows no shapes and no base.
A file's digest is kept in the user's cache, keyed by real path, size and time of last change.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from automerge.errors import SourceError
from automerge.files import cache_folder, write_whole
from automerge.merge.sources.checkpoint import SafeFile
from automerge.merge.sources.pages import give_back

PIECE = 1 << 20  # elements looked at together: few calls a tensor, little memory


def digest(files: Iterable[Path], progress: Callable[[str], None] | None = None) -> str:
    """The content digest of weight files and their adapter_config. Raises SourceError for NaN or infinity.

    Files are read beside each other: hashing one keeps one core busy, at less than a disk gives.
    """
    paths = sorted(files, key=lambda file: file.name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda path: _file_digest(path, progress), paths))
    lines = [f"{path.name}\0{digest}\n" for path, digest in zip(paths, found, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path, progress: Callable[[str], None] | None) -> str:
    if progress is not None:
        progress(f"reading {path}")
    note = _note_of(path)
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(note.read_text(encoding="utf-8"))["sha256"]
        if isinstance(kept, str) and len(kept) == 64:
            return kept
    if path.suffix == ".safetensors":
        refuse_not_finite(SafeFile(path))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    with suppress(OSError):  # the cache only saves time
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps({"path": str(path.resolve()), "sha256": found}))
    return found


def refuse_not_finite(file: SafeFile) -> None:
    """Raises SourceError naming the first tensor that holds NaN or infinity."""
    for tensor in file.names:
        mapped = file.mapped(tensor)
        flat = mapped.reshape(-1)
        if not flat.is_floating_point():
            continue
        for start in range(0, flat.numel(), PIECE):
            low, high = torch.aminmax(flat[start : start + PIECE])  # NaN wins over any number
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                hint = "The fine-tune or its conversion went wrong; such a model cannot be merged."
                raise SourceError(f"{tensor} holds NaN or infinity", where=str(file.path), hint=hint)
        give_back(mapped)


def _note_of(path: Path) -> Path:
    real = path.resolve()
    state = real.stat()
    key = hashlib.sha256(f"{real}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()
    return cache_folder() / "digests" / f"{key}.json"
