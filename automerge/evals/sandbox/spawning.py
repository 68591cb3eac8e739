"""Starts the spawner and talks to it. One spawner serves every thread of this process."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from automerge.evals.sandbox.levels import Level

_PACKAGE = Path(__file__).parents[2]
# The package's own __init__ files load what the spawner does not need, so it gets empty ones with the same paths.
_LIGHT = """
import sys
for name, path in {packages!r}:
    module = type(sys)(name)
    module.__path__ = [path]
    sys.modules[name] = module
from automerge.evals.sandbox.spawner import main
main()
"""


class SandboxFailed(Exception):
    """The sandbox could not do its work. It says nothing about the program that was to run in it."""


class Spawner:
    """The running spawner of one level. For several threads."""

    def __init__(self, level: Level) -> None:
        """Raises SandboxFailed where it cannot be started."""
        self.level = level
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packages = [
            (name, str(_PACKAGE.joinpath(*name.split(".")[1:])))
            for name in ("automerge", "automerge.evals", "automerge.evals.sandbox")
        ]
        command = [sys.executable, "-I", "-S", "-c", _LIGHT.format(packages=packages), json.dumps(level.setup())]
        try:
            self._process = subprocess.Popen(
                command, stdin=other.fileno(), stderr=subprocess.PIPE, env={"LC_ALL": "C.UTF-8"}, cwd="/"
            )
        except OSError as error:
            self._control.close()
            raise SandboxFailed(f"cannot start {sys.executable}: {error.strerror}") from error
        finally:
            other.close()

    @property
    def alive(self) -> bool:
        """False once it has ended."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """Why it ended, as far as it said; "" while it lives."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return ""
        said = self._process.stderr.read().decode("utf-8", "replace").strip() if self._process.stderr else ""
        return (
            said.splitlines()[-1] if said else f"the process that starts sandboxes left with {self._process.returncode}"
        )

    def start(self, cpu: int, descriptors: Sequence[int]) -> int:
        """Starts a sandbox with at most `cpu` seconds of CPU time on these descriptors (requests, answers, output);
        returns the number by which it is killed. Raises SandboxFailed."""
        number = next(self._numbers)
        try:
            with self._lock:
                socket.send_fds(self._control, [json.dumps({"start": number, "cpu": cpu}).encode()], descriptors)
        except OSError as error:
            raise SandboxFailed(
                f"the process that starts sandboxes is gone: {os.strerror(error.errno or 0)}"
            ) from error
        return number

    def kill(self, number: int) -> None:
        """Kills what `start` started. A spawner that is gone has killed it already."""
        with contextlib.suppress(OSError), self._lock:
            self._control.send(json.dumps({"kill": number}).encode())

    def close(self) -> None:
        """Kills everything that runs, and the spawner."""
        self._control.close()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
