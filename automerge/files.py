"""Files: where automerge keeps what can be made anew, and writing that is done as a whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$AUTOMERGE_CACHE, or the user's cache folder of this system."""
    named = os.environ.get("AUTOMERGE_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("automerge")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to. It becomes `path` at the end; where something is raised it is removed."""
    part = path.with_name(f"{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """The file with this text or, if the process dies, as it was. Raises OSError."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
