"""The filter's decisions, by interpreting its bytes; what they do to programs is tested with the hostile ones."""

import errno
import struct

import pytest

from automerge.evals.sandbox.seccomp import filter_bytes
from automerge.evals.sandbox.syscalls import ALLOWED, LIMITED

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
# (x86_64, aarch64) of calls that must fail.
DENIED = {
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "ptrace": (101, 117),
    "process_vm_writev": (311, 271),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "truncate": (76, 45),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "sched_setaffinity": (203, 122),
    "pidfd_open": (434, 434),
    "landlock_create_ruleset": (444, 444),
    "unknown": (400, 400),
}


def decide(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter returns for a system call."""
    data = struct.pack("<IIQ6Q", number, audit or AUDIT[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    program = filter_bytes(machine)
    at, word = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("<HBBI", program, 8 * at)
        at += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            (word,) = struct.unpack_from("<I", data, value)
        else:
            holds = {0x15: word == value, 0x35: word >= value, 0x45: bool(word & value)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("column", "machine"), list(enumerate(AUDIT)))
def test_what_is_allowed_and_what_is_not(column: int, machine: str) -> None:
    for name, numbers in ALLOWED.items():
        if (number := numbers[column]) is not None:
            assert decide(machine, number) == ALLOW, name
    for name, denied in DENIED.items():
        if (other := denied[column]) is not None:
            assert decide(machine, other) == EPERM, name
    assert decide(machine, 435) == ENOSYS
    assert decide(machine, 1, audit=AUDIT["aarch64" if machine == "x86_64" else "x86_64"]) == KILL


@pytest.mark.parametrize(("column", "machine"), list(enumerate(AUDIT)))
@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("clone", (0x3D0F00,), True),  # a thread, as the C library makes one
        ("clone", (0x01200011,), False),  # a fork
        ("clone", (0x10000011,), False),  # a user namespace
        ("ioctl", (1, 0x5401), True),
        ("ioctl", (1, 0x5412), False),  # TIOCSTI
        ("ioctl", (1, 0x1_0000_5412), False),
        ("fcntl", (1, 3), True),
        ("fcntl", (1, 8), False),  # F_SETOWN
        ("prctl", (15,), True),
        ("prctl", (1,), False),  # PR_SET_PDEATHSIG
        ("prctl", (22,), False),
        ("prlimit64", (0, 7), True),
        ("prlimit64", (1234, 0), False),
    ],
)
def test_arguments_decide(column: int, machine: str, name: str, arguments: tuple[int, ...], allowed: bool) -> None:
    number = LIMITED[name][column]
    assert number is not None
    assert decide(machine, number, *arguments) == (ALLOW if allowed else EPERM)


def test_the_second_set_of_numbers_of_x86_64_kills() -> None:
    assert decide("x86_64", 0x40000000 | 1) == KILL


def test_every_jump_stays_inside() -> None:
    for machine in AUDIT:
        program = filter_bytes(machine)
        assert len(program) % 8 == 0 and len(program) // 8 < 4096
        for at in range(len(program) // 8):
            _, if_true, if_false, _ = struct.unpack_from("<HBBI", program, 8 * at)
            assert at + 1 + max(if_true, if_false) < len(program) // 8 + (if_true == if_false == 0)
