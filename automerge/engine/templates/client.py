"""Has templates rendered in the child process of host.py: one process for all of a run's, started by the first."""

import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

from automerge.engine.templates.host import CPU_SECONDS, MAX_TEXT

WALL_SECONDS = 30.0  # a template; far above CPU_SECONDS, for machines that are busy
# The child imports from where this process does, and never from the current folder by accident.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from automerge.engine.templates.host import main; main()"
)

Kind = Literal["syntax", "null", "undefined", "refused", "limit", "error"]


class TemplateFailure(Exception):
    """A template gave no text. `kind` says why; `limit` is one of time, memory or length."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


Job = tuple[Literal["skill", "chat"], str, Mapping[str, Any] | None]  # whose template, its source, what fills it


def compile_skill(source: str) -> None:
    """Raises TemplateFailure where a skill's template cannot be compiled."""
    _one(("skill", source, None))


def render_skill(jobs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str | TemplateFailure]:
    """What each (source, row's fields) gives, in order. Nothing is rendered after one that took too much: the list ends
    with its failure."""
    return _child.ask([("skill", source, fields) for source, fields in jobs])


def render_chat(source: str, fields: Mapping[str, Any]) -> str:
    """A model's chat template: `fields` are messages, add_generation_prompt, special tokens. Raises TemplateFailure."""
    return _one(("chat", source, fields))


def _one(job: Job) -> str:
    (answer,) = _child.ask([job])
    if isinstance(answer, TemplateFailure):
        raise answer
    return answer


class _Child:
    """The process, where one runs. It ends with this one: its socket closes."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a fork: the process is the parent's."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._calls: Connection | None = None

    def ask(self, jobs: Sequence[Job]) -> list[str | TemplateFailure]:
        found: list[str | TemplateFailure] = []
        with self._lock:
            calls = self._running()
            try:
                calls.send_bytes(pickle.dumps(jobs))
                for _ in jobs:
                    if not calls.poll(WALL_SECONDS):
                        self.end()
                        return [*found, TemplateFailure("limit", f"takes more than {WALL_SECONDS:g} s")]
                    answer = json.loads(calls.recv_bytes(16 * MAX_TEXT))
                    failed = "failed" in answer
                    found.append(TemplateFailure(answer["failed"], answer["message"]) if failed else answer["text"])
            except (EOFError, OSError):
                found.append(TemplateFailure("limit", _why(self.end())))
            except BaseException:  # Ctrl-C: the answer would be taken for that of the next template
                self.end()
                raise
        return found

    def _running(self) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            self.end()
        if self._calls is None:
            ours, theirs = socket.socketpair()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C is the parent's to handle
            )
            theirs.close()
            self._calls = Connection(ours.detach())
        return self._calls

    def end(self) -> int:
        """Ends the process, if any; its exit status, negative for a signal."""
        process, calls = self._process, self._calls
        self._process = self._calls = None
        if calls is not None:
            calls.close()
        if process is None:
            return 0
        try:
            # One that ended by itself says why; one that only waits for more ends now, its socket being closed.
            return process.wait(1.0 if calls is not None else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _why(status: int) -> str:
    if status == -signal.SIGXCPU:
        return f"takes more than {CPU_SECONDS} s of CPU time"
    return f"ended the process that renders it ({f'signal {-status}' if status < 0 else f'exit status {status}'})"


_child = _Child()
atexit.register(_child.end)
os.register_at_fork(after_in_child=_child.forget)
