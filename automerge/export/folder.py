"""A folder that is there as a whole, under its final name, or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automerge.errors import ExportError


@contextmanager
def part_of(out: Path) -> Iterator[Path]:
    """`<out>.part`, to write into; removed again unless `finish` renamed it. `out` must not exist, or be empty.

    Raises ExportError, also in place of file errors.
    """
    part = out.with_name(out.name + ".part")
    made = False
    try:
        check_vacant(out)
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


def check_vacant(out: Path) -> None:
    """Raises ExportError where something is there already: before minutes of work, not after."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError("exists already, and is not an empty folder", where=str(out), hint="Name another place.")


def _unwritable(error: OSError, out: Path) -> ExportError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free space, or export elsewhere."
        return ExportError("the disk is full; nothing was kept", where=str(out), hint=hint)
    return ExportError(f"cannot be written: {error.strerror or error}", where=str(out), hint="Name another place.")


def finish(part: Path, out: Path) -> None:
    """Flushes, and renames to `out`; an empty folder of that name gives way."""
    for path in (path for path in part.rglob("*") if path.is_file()):
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
