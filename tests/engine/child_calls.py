"""The other side of test_child.py: a process with calls that return, refuse, fail, hang and die."""

import os
import signal
import subprocess
import time
from typing import Any

from automerge.engine.child import serve
from automerge.errors import MergeError


def echo(*values: Any) -> list[Any]:
    print("echoing", *values, flush=True)
    return list(values)


def refuse() -> None:
    raise MergeError("not today", where="tensor", hint="tomorrow")


def fail() -> None:
    raise KeyError("lost")


def hang() -> None:
    time.sleep(600)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start_another() -> int:
    """A process of the same group, as vLLM's workers are."""
    return subprocess.Popen(["sleep", "600"]).pid


if __name__ == "__main__":
    serve({call.__name__: call for call in (echo, refuse, fail, hang, die, start_another)})
