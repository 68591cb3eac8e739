"""One sandbox as seen from outside: values in, values out, a deadline, a limit on output. It knows no tests.

Nothing that comes out is trusted: it is decoded as a plain value or refused, and all of it together is limited.
"""

import math
import os
import selectors
import time
from types import TracebackType
from typing import Any

from automerge.evals.sandbox.plain import MAX_BYTES, NotPlain, decode, encode
from automerge.evals.sandbox.spawning import SandboxFailed, Spawner

MAX_OUTPUT = 1 << 20  # bytes, of answers and of what is printed, together
CLOCK = 3  # seconds by the clock for each of CPU time
START_SECONDS = 30.0  # until the interpreter inside says that it runs; no fault of the program's


class ProgramEnded(Exception):
    """The program in the sandbox ended, ran out of time, or wrote what it may not: its own fault."""


class Process:
    """A running sandbox. Close it, or use it in a `with`: everything in it is killed."""

    def __init__(self, spawner: Spawner, seconds: float) -> None:
        """Starts a sandbox with `seconds` of CPU time and, from when it runs, CLOCK times that by the clock, so that a
        busy machine changes no verdict. Raises SandboxFailed."""
        self.seconds = CLOCK * seconds
        self.output = bytearray()
        self._answers = bytearray()
        self._written = 0
        self._selector = selectors.DefaultSelector()
        requests, self._requests = os.pipe()
        self._answers_end, answers = os.pipe()
        self._output_end, output = os.pipe()
        try:
            self._number = spawner.start(math.ceil(seconds) + 1, (requests, answers, output))
        except SandboxFailed:
            for end in (self._requests, self._answers_end, self._output_end):
                os.close(end)
            self._selector.close()
            raise
        finally:
            for end in (requests, answers, output):
                os.close(end)
        self._spawner = spawner
        os.set_blocking(self._requests, False)
        for end in (self._answers_end, self._output_end):
            os.set_blocking(end, False)
            self._selector.register(end, selectors.EVENT_READ)
        self._deadline = time.monotonic() + START_SECONDS
        self._await_start()
        self.restart_clock()

    def _await_start(self) -> None:
        try:
            self._write(self._spawner.level.inside())
            if self.receive() == ("started",):
                return
            said = "an answer that was not asked for"
        except ProgramEnded as error:
            said = str(error)
        self.close()
        printed = self.output.decode("utf-8", "replace").strip().splitlines()
        said = printed[-1] if printed else self._spawner.last_words() or said
        raise SandboxFailed(f"the sandbox did not start: {said}")

    def restart_clock(self) -> None:
        """The time it may work for starts now."""
        self._deadline = time.monotonic() + self.seconds

    def send(self, *values: Any) -> None:
        """Gives the other side values. One that is gone is noticed by `receive`, after what it said before. Raises
        ProgramEnded where it takes too long."""
        parts = [encode(value) for value in values]
        self._write(b"".join(len(part).to_bytes(4, "big") + part for part in parts))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:
                self._wait(writing=True)
            except BrokenPipeError:
                return

    def receive(self) -> Any:
        """The next value from the other side. Raises ProgramEnded."""
        while True:
            size = int.from_bytes(self._answers[:4], "big")
            if len(self._answers) >= 4 and size > MAX_BYTES:
                raise ProgramEnded("the program wrote to the sandbox's own pipe")
            if len(self._answers) >= 4 + size:
                data = bytes(self._answers[4 : 4 + size])
                del self._answers[: 4 + size]
                break
            self._wait()
        try:
            return decode(data)
        except NotPlain as error:
            raise ProgramEnded(f"the program's answer cannot be read: {error}") from None

    def _wait(self, writing: bool = False) -> None:
        """Reads what there is, or waits until there is something, or until the pipe for requests can be written."""
        if writing:
            self._selector.register(self._requests, selectors.EVENT_WRITE)
        try:
            ready = self._selector.select(max(0.0, self._deadline - time.monotonic()))
        finally:
            if writing:
                self._selector.unregister(self._requests)
        if not ready:
            raise ProgramEnded(f"the program ran longer than {self.seconds:g} s")
        ended = False
        for key, events in ready:
            if events & selectors.EVENT_READ:
                ended |= self._read(key.fd)
        if ended:
            raise ProgramEnded("the program ended early: it left, crashed, or used up its time or memory")

    def _read(self, end: int) -> bool:
        """Takes what a pipe holds. True where the pipe of answers is closed."""
        data = os.read(end, 1 << 16)
        self._written += len(data)
        if self._written > MAX_OUTPUT:
            raise ProgramEnded(f"the program wrote more than {MAX_OUTPUT} bytes")
        if not data:
            self._selector.unregister(end)
        if end == self._answers_end:
            self._answers += data
            return not data
        self.output += data
        return False

    def close(self) -> None:
        """Kills the sandbox, with everything in it. May be called twice."""
        if self._requests < 0:
            return
        self._drain()
        self._spawner.kill(self._number)
        self._selector.close()
        for end in (self._requests, self._answers_end, self._output_end):
            os.close(end)
        self._requests = -1

    def _drain(self) -> None:
        """What was printed before the end, for messages."""
        try:
            while self._written < MAX_OUTPUT and (data := os.read(self._output_end, 1 << 16)):
                self._written += len(data)
                self.output += data
        except OSError:
            pass

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
