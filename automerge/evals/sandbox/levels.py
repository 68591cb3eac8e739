"""The levels of isolation: how each one starts an interpreter, and with which limits. It starts nothing.

bubblewrap   namespaces of its own (files, processes, network, users), a seccomp filter, limits
landlock     no file may be written and few read, the same filter, limits
none         limits alone: for programs one trusts, and only where the skill says `unsafe: true`
"""

import functools
import marshal
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automerge.evals.sandbox.seccomp import filter_bytes, machine

MEMORY = 512 << 20  # bytes of address space a process
FILE_SIZE = 16 << 20  # bytes, of one file and of all files in bubblewrap's /tmp
PROCESSES = 16  # threads, in fact: a new process is refused
LIMITS = {"AS": MEMORY, "FSIZE": FILE_SIZE, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0}
# Sets of strings have the same order in each run, so that an answer has the same score in each run.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}

_HERE = Path(__file__).parent
# The first thing on descriptor 3 is what runs inside: module names with their code, or their source.
_BOOT = """
import marshal, posix, sys
for name in ("automerge", "automerge.evals", "automerge.evals.sandbox"):
    sys.modules[name] = type(sys)(name)
with open(3, "rb", closefd=False, buffering=0) as pipe:
    size, data = int.from_bytes(pipe.read(4), "big"), b""
    while len(data) < size:
        data += pipe.read(size - len(data)) or posix._exit(1)
for name, code in marshal.loads(data):
    module = sys.modules[name] = type(sys)(name)
    exec(code, module.__dict__)
module.main()
"""


@dataclass(frozen=True)
class Level:
    """A way to isolate, with the interpreter that runs inside."""

    name: str
    python: str

    def setup(self) -> dict[str, Any]:
        """What the spawner needs to know."""
        inside = [self.python, "-S", "-s", "-P", "-B", "-u", "-X", "utf8", "-c", _BOOT, str(self._processes())]
        wrapped = self.name == "bubblewrap"
        return {
            "bubblewrap": wrapped,
            "landlock": self.name == "landlock",
            "readable": _readable(self.python),
            "filter": "" if self.name == "none" else filter_bytes(machine()).hex(),
            "limits": LIMITS,
            "command": [*_bubblewrap(self.python), *inside] if wrapped else inside,
            "environment": ENVIRONMENT,
        }

    def inside(self) -> bytes:
        """What the interpreter inside reads first. Compiled here if it understands this one's code: that saves half
        of its start."""
        same = Path(self.python).name == f"python{sys.version_info.major}.{sys.version_info.minor}"
        return _inside(same)

    def _processes(self) -> int:
        # Only in a user namespace of its own is a user's every other process not counted.
        return PROCESSES if self.name == "bubblewrap" else PROCESSES + _tasks()


def interpreters() -> list[str]:
    """Interpreters to try, this one first. For root, those that every user can reach: sandboxes run as `nobody`."""
    own = os.path.realpath(sys.executable)
    named = [f"python3.{minor}" for minor in range(max(sys.version_info.minor, 14), 10, -1)]
    system = [shutil.which(name, path="/usr/local/bin:/usr/bin:/bin") for name in named]
    found = dict.fromkeys([own, *(os.path.realpath(path) for path in system if path)])
    return [path for path in found if os.geteuid() != 0 or _open_to_all(path)]


def _open_to_all(path: str) -> bool:
    return all(os.stat(folder).st_mode & 0o001 for folder in (Path(path), *Path(path).parents))


@functools.cache
def _inside(compiled: bool) -> bytes:
    modules = []
    for name in ("plain", "reading", "runner"):
        source = (_HERE / f"{name}.py").read_text(encoding="utf-8")
        full = f"{__package__}.{name}"
        modules.append((full, compile(source, full, "exec", dont_inherit=True) if compiled else source))
    data = marshal.dumps(modules)
    return len(data).to_bytes(4, "big") + data


def _prefix(python: str) -> str:
    """The folder of an interpreter: /opt/python of /opt/python/bin/python3."""
    return str(Path(python).parents[1])


def _readable(python: str) -> list[str]:
    wanted = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/dev/urandom", "/dev/null", _prefix(python)]
    return [path for path in dict.fromkeys(os.path.realpath(path) for path in wanted) if os.path.exists(path)]


def _bubblewrap(python: str) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--die-with-parent"]
    command += ["--new-session", "--clearenv", "--cap-drop", "ALL"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    command += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/lib", "/lib64"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    prefix = _prefix(python)
    if not prefix.startswith("/usr"):
        command += ["--ro-bind", prefix, prefix]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    command += ["--size", str(FILE_SIZE), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"]
    return [*command, "--seccomp", "5", "--"]


def _tasks() -> int:
    """How many threads run on this machine: at least as many as the user's own."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[3].split("/")[1])
