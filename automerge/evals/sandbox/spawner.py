"""The spawner: a small process that starts sandboxes and kills them, so that the large process never forks.

It is never root: as uid 0 it becomes `nobody` before it does anything. It reads messages from the socket on descriptor
0: {"start": n, "cpu": seconds} with three descriptors (requests, answers, output), and {"kill": n}. Where the socket
closes, it kills all it started and ends. It never reads what the sandboxes write. The level's setup is its argument.
"""

import array
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import sys
from typing import Any

from automerge.evals.sandbox.landlock import install_filter, restrict, set_process

_DEATH_SIGNAL, _DUMPABLE = 1, 4  # of prctl
_FIRST_FREE = 100  # descriptors are moved here before they are put in their places
_FILTER = 5  # the descriptor on which bubblewrap reads its filter


def main() -> None:
    """Serves until the socket closes."""
    setup = json.loads(sys.argv[1])
    _drop_root()
    set_process(_DUMPABLE, 0)  # a sandbox of the same user must not trace this process
    control = socket.socket(fileno=os.dup(0))
    running: dict[int, int] = {}
    try:
        while True:
            text, descriptors = _message(control)
            if not text:
                return
            message = json.loads(text)
            if "start" in message:
                running[message["start"]] = _start(setup, message["cpu"], descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
            elif message["kill"] in running:
                _end(running.pop(message["kill"]))
    finally:
        for pid in running.values():
            _end(pid)


def _drop_root() -> None:
    if os.geteuid() == 0 or os.getuid() == 0:
        import pwd

        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)


def _message(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    text, ancillary, _, _ = control.recvmsg(1 << 16, socket.CMSG_SPACE(3 * descriptors.itemsize))
    for _, _, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return text, list(descriptors)


def _end(pid: int) -> None:
    """Kills a sandbox: bubblewrap's helper, with which its whole process namespace goes, or its process group."""
    for kill in (os.killpg, os.kill):  # the group is there once the process has called setsid
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _start(setup: dict[str, Any], cpu: int, descriptors: list[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(setup, cpu, descriptors)
    except BaseException as error:
        os.write(1, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(127)


def _become(setup: dict[str, Any], cpu: int, descriptors: list[int]) -> None:
    """Turns this forked process into the sandbox."""
    requests, answers, output = (fcntl.fcntl(number, fcntl.F_DUPFD, _FIRST_FREE) for number in descriptors)
    null = os.open("/dev/null", os.O_RDWR)
    null = fcntl.fcntl(null, fcntl.F_DUPFD, _FIRST_FREE)
    for place, number in enumerate((null, output, output, requests, answers)):
        os.dup2(number, place)
    os.closerange(_FILTER, 256)
    os.setsid()
    set_process(_DEATH_SIGNAL, signal.SIGKILL)
    os.umask(0o077)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # short of memory, the kernel ends this process first
    for name, value in setup["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    program = bytes.fromhex(setup["filter"])
    if setup["landlock"]:
        os.chdir("/")
        restrict(setup["readable"], ["/dev/null"])
    if setup["bubblewrap"]:
        reader, writer = os.pipe()
        os.write(writer, program)
        os.close(writer)
        os.dup2(reader, _FILTER)
        os.set_inheritable(_FILTER, True)
    elif program:
        install_filter(program)
    os.execve(setup["command"][0], setup["command"], setup["environment"])
