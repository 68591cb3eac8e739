"""Whether a level holds on this machine: it must run an honest program and block hostile ones. It trusts no binary
because it is there."""

import os
import tempfile
from pathlib import Path

from automerge.errors import SkillError
from automerge.evals.sandbox.levels import Level
from automerge.evals.sandbox.process import Process, ProgramEnded
from automerge.evals.sandbox.spawning import SandboxFailed, Spawner

SECONDS = 5.0
LOOP_SECONDS = 0.05

_HONEST = "import math, re, threading\ndef add(a, b):\n    return a + b"

# Each of these is tried inside; what it names works there and must not.
_ATTACKS = """
import ctypes, os, socket
libc = ctypes.CDLL(None)
def attempt(action):
    try:
        return action() not in (False, -1)
    except (OSError, MemoryError):
        return False
def attack(secret, drop):
    attempts = {
        "be root": lambda: os.getuid() == 0 or os.geteuid() == 0,
        "start a process": lambda: os.fork() or os._exit(0),
        "open a socket": lambda: socket.socket(),
        "open a unix socket": lambda: socket.socket(socket.AF_UNIX),
        "read a file of the machine": lambda: open(secret).read(),
        "read /etc/passwd": lambda: open("/etc/passwd").read(),
        "write outside": lambda: open(drop + "/pwned", "w"),
        "make a user namespace": lambda: libc.unshare(0x10000000),
        "trace its parent": lambda: libc.ptrace(16, os.getppid(), None, None),
        "signal other processes": lambda: os.kill(os.getppid() or 1, 0),
        "make a memory file": lambda: os.memfd_create("x"),
        "make shared memory": lambda: (made := libc.shmget(0, 4096, 0o1600)) != -1 and not libc.shmctl(made, 0, None),
        "take 1 GB of memory": lambda: len(bytearray(1 << 30)),
    }
    return [name for name, action in attempts.items() if attempt(action)]
"""


def weakness(level: Level) -> str | None:
    """Why a level is not to be used here; None where it holds. Takes about a second. Of the level `none` nothing is
    expected but that it runs the honest program."""
    probes = (_honest,) if level.name == "none" else (_honest, _hostile, _endless)
    try:
        spawner = Spawner(level)
        try:
            return next((why for probe in probes if (why := probe(spawner)) is not None), None)
        finally:
            spawner.close()
    except (SandboxFailed, SkillError) as error:
        return str(error)


def _honest(spawner: Spawner) -> str | None:
    with Process(spawner, SECONDS) as process:
        try:
            process.send(("program", _HONEST, ""))
            process.receive()
            process.send(("eval", "add(2, 3)"))
            answer = process.receive()
        except ProgramEnded as error:
            return f"an honest program fails: {error}"
    return None if answer == ("value", 5, []) else f"an honest program fails: {answer!r}"


def _hostile(spawner: Spawner) -> str | None:
    with tempfile.TemporaryDirectory(prefix="automerge-canary-") as folder:
        os.chmod(folder, 0o777)
        secret = Path(folder, "secret")
        secret.write_text("secret")
        secret.chmod(0o644)
        with Process(spawner, SECONDS) as process:
            try:
                process.send(("program", _ATTACKS, ""))
                process.receive()
                process.send(("call", "attack", [str(secret), folder], {}))
                answer = process.receive()
            except ProgramEnded as error:
                return f"the probe of hostile actions fails: {error}"
        written = len(list(Path(folder).iterdir())) > 1
    if answer[0] != "value" or type(answer[1]) is not list:
        return f"the probe of hostile actions fails: {answer!r}"
    works = [*map(str, answer[1]), *(["leave a file"] if written else [])]
    return f"a program can {', '.join(works)}" if works else None


def _endless(spawner: Spawner) -> str | None:
    with Process(spawner, LOOP_SECONDS) as process:
        try:
            process.send(("program", "import re\nre.match('(a+)+$', 'a' * 64 + '!')", ""))
            process.receive()
        except ProgramEnded:
            return None
    return "a program that never ends ended"
