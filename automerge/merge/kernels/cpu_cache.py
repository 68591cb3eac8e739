"""Where compiled code is kept, so that a machine compiles once. Imports numba: import this module late.

The folder is $NUMBA_CACHE_DIR, else `numba` in automerge's cache folder: the installed package may be read-only. Below
it lies one folder for each state of these sources and each size of vectors, since numba looks at no more than a file's
own size and time, and wheels give every file the same time. Where nothing can be written, code is compiled anew in
every process.
"""

import hashlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

from automerge.files import cache_folder
from automerge.merge.kernels.cpu_table import LANES

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(signature: Any = None) -> Callable[[Function], Any]:
    """A decorator: compiled without the interpreter lock, with IEEE arithmetic and nothing fused, and kept."""

    def decorate(function: Function) -> Any:
        folder = _folder()
        before = config.CACHE_DIR
        config.CACHE_DIR = folder
        try:
            keep = {"nogil": True, "error_model": "numpy", "fastmath": False, "cache": bool(folder)}
            return numba.njit(signature, **keep)(function) if signature is not None else numba.njit(**keep)(function)
        finally:
            config.CACHE_DIR = before

    return decorate


@cache
def _folder() -> str:
    """A folder that can be written to, or an empty string."""
    state = hashlib.sha256(str(LANES).encode())
    for path in sorted(Path(__file__).parent.glob("cpu*.py")):
        state.update(path.read_bytes())
    root = Path(config.CACHE_DIR) if config.CACHE_DIR else cache_folder() / "numba"
    folder = root / state.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError:
        return ""
