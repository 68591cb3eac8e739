"""A process of its own that serves calls, and that leaves nothing behind whichever side dies.

The parent sends (name, arguments) over a socket and waits, no longer than it is told to. The child leads a process
group; it holds the reading end of a pipe that only the parent can write to, and kills its group when that end closes:
at close(), and at the parent's end, even by kill -9. Where the child dies the parent kills what is left of the group.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from automerge import errors
from automerge.engine.memory import OUT_OF_MEMORY
from automerge.errors import AutomergeError, EngineLost


class Child:
    """Runs `python -m MODULE`, whose main calls `serve`. Its output goes to the end of the file `log`."""

    def __init__(self, module: str, log: Path, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        reads, self._lifeline = os.pipe()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(reads)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(), reads),
                env={**os.environ, **environment},
                start_new_session=True,  # a Ctrl-C is the parent's to handle
            )
        theirs.close()
        os.close(reads)
        self._calls = Connection(ours.detach())
        self._ending = threading.Lock()

    @property
    def pid(self) -> int:
        """Of the child, and of its process group."""
        return self._process.pid

    def call(self, name: str, *arguments: Any, seconds: float) -> Any:
        """What the child's `name` returns.

        Raises what it raised, of automerge's errors, and EngineLost for any other; EngineLost where the child died or
        did not answer in time, and is gone.
        """
        late = threading.Event()
        alarm = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._kill, (late,))
        alarm.daemon = True
        alarm.start()
        try:
            self._calls.send((name, arguments))  # waits, too, where more is asked than a socket holds
            answer = self._calls.recv()
        except (EOFError, OSError):
            code = self._end()
            if late.is_set():
                message = f"the engine has not answered for {seconds:g} s"
                raise EngineLost(message, where=str(self._log), hint=SLOW) from None
            hint = OUT_OF_MEMORY if code == KILLED else None
            raise EngineLost(f"the engine's process died ({code})", where=str(self._log), hint=hint) from None
        except BaseException:  # Ctrl-C: the answer would be taken for that of the next call
            self.close()
            raise
        finally:
            alarm.cancel()
        return unpacked(answer, str(self._log))

    def close(self) -> None:
        """Kills the child and its group. May be called twice, and from another thread than one that waits in `call`."""
        self._end()

    def _kill(self, late: threading.Event) -> None:
        """What waits in `call` finds the child gone, and closes."""
        with self._ending:
            if self._lifeline >= 0:
                late.set()
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)

    def _end(self) -> str:
        with self._ending:
            if self._lifeline >= 0:  # once: its number may be another's group by now
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
                self._calls.close()
                os.close(self._lifeline)
                self._lifeline = -1
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"


KILLED = f"signal {signal.SIGKILL}"
SLOW = "Raise engine: {timeout: …} where the model is this slow."


def serve(methods: Mapping[str, Callable[..., Any]]) -> NoReturn:
    """The child's side: answers calls for ever. The process's arguments are those Child gave."""
    calls, lifeline = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_die_with_the_parent, args=(lifeline,), daemon=True).start()
    try:
        while True:
            name, arguments = calls.recv()
            calls.send(packed(methods[name], arguments))
    except (EOFError, OSError):  # the parent's end, seen here first: this process would end, and not its group
        os.killpg(0, signal.SIGKILL)
        raise


def packed(method: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
    """What a call came to, as plain values: `unpacked` returns it, or raises it."""
    try:
        return "returned", method(*arguments)
    except AutomergeError as error:
        return "raised", type(error).__name__, error.message, error.where, error.hint
    except Exception as error:
        traceback.print_exc()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        short = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
        return "raised", "EngineLost", reason, None, OUT_OF_MEMORY if short else None


def unpacked(answer: tuple[Any, ...], log: str) -> Any:
    """The value that was returned. Raises what was raised; `log` is where it happened, if it does not say itself."""
    kind, *rest = answer
    if kind == "returned":
        return rest[0]
    name, message, where, hint = rest
    raised: AutomergeError = getattr(errors, name)(message, where=where or log, hint=hint)
    raise raised


def _die_with_the_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the writing end is closed
    os.killpg(0, signal.SIGKILL)
