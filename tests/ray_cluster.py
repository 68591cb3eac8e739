"""A real Ray cluster of one node on loopback, for tests and benchmarks."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).with_name("ray"))


@contextmanager
def cluster(cores: int) -> Iterator[str]:
    """The address of a node with so many cores, started by Ray's own command, and gone afterwards."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        options = ["--head", f"--port={port}", f"--num-cpus={cores}", "--include-dashboard=false"]
        options += [f"--temp-dir={folder}", "--disable-usage-stats", "--block"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        node = subprocess.Popen([COMMAND, "start", *options], env=environment, **quiet)  # type: ignore[call-overload]
        try:
            _await(port)
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()


def _await(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            time.sleep(5)  # the node joins its head
            return


def actors() -> list[int]:
    """The processes of our actors that live."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::_Hosting"):
            found.append(int(folder.name))
    return found
