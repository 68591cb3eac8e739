"""What hostile programs are after, planted and checked: files, folders, listeners, shared memory, processes."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path("/tmp/automerge-canary")
SECRETS = {"secret600": "canary-600-d7c1", "secret644": "canary-644-a90e"}
ENVIRONMENT = "canary-environment-5b2f"
OUTSIDE = [Path(p) / "pwned" for p in ("/usr/local/lib", "/dev/shm", "/var/tmp", "/tmp")]


class Canaries:
    """The planted things as they were, to be compared with what they are."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.before = self.state()

    def state(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(FOLDER.rglob("*")):
            about = path.lstat()
            content = path.read_text() if path.is_file() else ""
            found[str(path)] = (about.st_mode, about.st_uid, about.st_nlink, about.st_mtime_ns, content)
        found["outside"] = [str(path) for path in OUTSIDE if path.exists()]
        places = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path())
        found["filled"] = [str(path) for place in places for path in place.glob("am_fill_*")]
        found["shared memory"] = Path("/proc/sysvipc/shm").read_text().count("\n")
        return found

    def check(self, output: str) -> None:
        """Nothing was read, written, reached or left. Raises AssertionError."""
        assert self.state() == self.before
        assert self.hits == []
        assert "LEAK" not in output
        for secret in (*SECRETS.values(), ENVIRONMENT):
            assert secret not in output
        assert not sandbox_processes(patience=5.0)


def sandbox_processes(patience: float) -> list[str]:
    """Processes that belong to sandboxes and are still there after so many seconds."""
    end = time.monotonic() + patience
    while (found := list(_sandboxes())) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def _sandboxes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"marshal, posix, sys" in command and b"spawner import main" not in command:
            yield f"{entry.name}: {command[:60]!r}"


@contextmanager
def planted() -> Iterator[Canaries]:
    """Plants them under /tmp/automerge-canary, with listeners on loopback and on unix sockets."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "victim").mkdir(parents=True)
    (FOLDER / "drop").mkdir()
    for name, text in SECRETS.items():
        (FOLDER / name).write_text(text)
        (FOLDER / name).chmod(int(f"0o{name[-3:]}", 8))
    (FOLDER / "victim" / "kept").write_text("kept")
    (FOLDER / "victimfile").write_text("kept")
    (FOLDER / "drop").chmod(0o777)
    (FOLDER / "victim").chmod(0o777)
    (FOLDER / "victimfile").chmod(0o666)
    if os.geteuid() == 0:  # what `nobody` owns, it could change the mode of
        for name in ("victim", "victimfile", "secret644"):
            shutil.chown(FOLDER / name, "nobody")
    listeners = [_listener(*what) for what in _ADDRESSES]
    canaries = Canaries()
    stop = threading.Event()
    watchers = [threading.Thread(target=_watch, args=(one, canaries, stop)) for one in listeners]
    try:
        for watcher in watchers:
            watcher.start()
        yield canaries
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
        for listener in listeners:
            listener.close()
        shutil.rmtree(FOLDER)


_ADDRESSES: list[tuple[int, int, object]] = [
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 18765)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 18766)),
    (socket.AF_UNIX, socket.SOCK_STREAM, "\0am_canary"),
    (socket.AF_UNIX, socket.SOCK_DGRAM, "\0am_canary_dgram"),
    (socket.AF_UNIX, socket.SOCK_STREAM, str(FOLDER / "sock")),
]


def _listener(family: int, kind: int, address: object) -> socket.socket:
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)  # type: ignore[arg-type]
    if kind == socket.SOCK_STREAM:
        listener.listen()
    if isinstance(address, str) and not address.startswith("\0"):
        os.chmod(address, 0o777)
    listener.settimeout(0.05)
    return listener


def _watch(listener: socket.socket, canaries: Canaries, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            else:
                listener.recv(100)
            canaries.hits.append(str(listener.getsockname()))
        except TimeoutError:
            pass
