"""What a user without triton is told, where device code is imported."""

from collections.abc import Iterator
from contextlib import contextmanager

from automerge.errors import MergeError, install


@contextmanager
def needs_triton() -> Iterator[None]:
    """Around an import of device code. Raises MergeError where triton is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "triton":
            raise
        hint = f"Install it: {install('gpu')}"
        raise MergeError("merging on a GPU needs the package triton, which is missing", hint=hint) from None
