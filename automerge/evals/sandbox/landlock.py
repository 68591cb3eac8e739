"""Landlock and seccomp for the calling process, through ctypes: for the spawner's children, before the program starts.

It imports nothing of the package, because the spawner is a small process.
"""

import ctypes
import os
import struct

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI version → how many file rights it knows
_NET_SINCE, _SCOPES_SINCE = 4, 6
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The kernel's Landlock ABI; 0 where it has none."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))))


def restrict(readable: list[str], writable: list[str]) -> None:
    """From now on this process reads and executes below `readable`, writes to the files `writable`, and nothing else;
    no TCP, and where the kernel can, no abstract sockets and no signals to processes outside. Raises OSError."""
    abi = version()
    if abi < 1:
        raise OSError("the kernel has no Landlock")
    rights = (1 << _RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack("<QQQ", rights, 3 if abi >= _NET_SINCE else 0, 3 if abi >= _SCOPES_SINCE else 0)
    attributes = attributes[: 24 if abi >= _SCOPES_SINCE else 16 if abi >= _NET_SINCE else 8]
    ruleset = _checked(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    for path in readable:
        _allow(ruleset, path, _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0))
    for path in writable:
        _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
    no_new_privileges()
    _checked(_libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("<Qi", rights, place)
    _checked(_libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, rule, ctypes.c_uint32(0)))
    os.close(place)


def no_new_privileges() -> None:
    """No program started from here on gains rights (setuid). Raises OSError."""
    _checked(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def install_filter(program: bytes) -> None:
    """Puts a seccomp filter on this process, for good. Raises OSError."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))

    no_new_privileges()
    _checked(_libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(Program(len(program) // 8, program)), 0, 0))


def set_process(option: int, value: int) -> None:
    """prctl(option, value). Raises OSError."""
    _checked(_libc.prctl(option, value, 0, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
