"""The seccomp filter: a list of allowed system calls as BPF bytes, assembled here, so that no C compiler is needed.

All else fails with EPERM: a new process (clone without CLONE_THREAD), socket, ptrace, kill, memfd_create, shmget,
unshare, mount, chmod, io_uring and whatever a kernel adds. clone3 fails with ENOSYS, for its flags lie in memory that a
filter cannot read, and the C library then falls back to clone.
"""

import errno
import platform
import struct

from automerge.errors import SkillError
from automerge.evals.sandbox.syscalls import ALLOWED, LIMITED

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables, AUDIT_ARCH_…
_X32 = 0x40000000  # x86_64's second set of numbers starts here

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF operations on 32-bit words
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_CLONE_THREAD = 0x10000
_IOCTLS = (0x5401, 0x5413, 0x5450, 0x5451, 0x5421, 0x541B)  # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX, FIONBIO, FIONREAD
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)  # F_DUPFD … F_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ; not F_SETOWN
_PRCTLS = (15, 16)  # PR_SET_NAME, PR_GET_NAME


def machine() -> str:
    """This machine's architecture. Raises SkillError where the tables do not have it."""
    name = platform.machine()
    if name not in _ARCHITECTURES:
        raise SkillError(f"no system call numbers for {name}; known: {', '.join(_ARCHITECTURES)}")
    return name


def filter_bytes(architecture: str) -> bytes:
    """The filter as an array of struct sock_filter (8 bytes each), for prctl or `bwrap --seccomp`."""
    column, audit = _ARCHITECTURES[architecture]
    program = [
        *_step(_LOAD, _ARCHITECTURE),
        *_step(_EQUAL, audit, 1, 0),
        *_step(_RETURN, _KILL),
        *_step(_LOAD, _NUMBER),
    ]
    if architecture == "x86_64":
        program += _step(_AT_LEAST, _X32, 0, 1) + _step(_RETURN, _KILL)
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            program += _step(_EQUAL, number, 0, 1) + _step(_RETURN, _ALLOW)
    limited = {name: numbers[column] or 0 for name, numbers in LIMITED.items()}
    program += _guarded(limited["clone"], _argument(0) + _step(_ANY_BIT, _CLONE_THREAD, 0, 1) + _step(_RETURN, _ALLOW))
    program += _guarded(limited["clone3"], _step(_RETURN, _ERRNO | errno.ENOSYS))
    program += _guarded(limited["ioctl"], _one_of(1, _IOCTLS))
    program += _guarded(limited["fcntl"], _one_of(1, _FCNTLS))
    program += _guarded(limited["prctl"], _one_of(0, _PRCTLS))
    # The process itself (pid 0) only: another process of the same user could be given lower limits.
    program += _guarded(limited["prlimit64"], _one_of(0, (0,)))
    program += _step(_RETURN, _ERRNO | errno.EPERM)
    return b"".join(program)


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> list[bytes]:
    return [struct.pack("<HBBI", operation, if_true, if_false, value)]


def _argument(index: int) -> list[bytes]:
    """Loads the low half of an argument, the half that the kernel reads of those looked at here."""
    return _step(_LOAD, _ARGUMENTS + 8 * index)


def _one_of(index: int, values: tuple[int, ...]) -> list[bytes]:
    steps = _argument(index)
    for value in values:
        steps += _step(_EQUAL, value, 0, 1) + _step(_RETURN, _ALLOW)
    return steps


def _guarded(number: int, steps: list[bytes]) -> list[bytes]:
    """Steps for one system call, which end in EPERM if none of them returns."""
    steps = steps + _step(_RETURN, _ERRNO | errno.EPERM)
    return [*_step(_EQUAL, number, 0, len(steps)), *steps]
