"""Gives mapped pages back to the system, so that a process that reads checkpoints once does not seem to hold them all.

The pages stay in the system's cache; touched again, they are mapped again. It knows nothing of what they hold.
"""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

from torch import Tensor


def give_back(mapped: Tensor) -> None:
    """Unmaps the pages of a tensor that is a read-only view of a mapped file. Never call it for any other tensor: what
    memory of the process's own holds would be lost. Does nothing where the system is not Linux."""
    if sys.platform != "linux" or not mapped.numel():
        return
    start = mapped.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = mapped.data_ptr() + mapped.numel() * mapped.element_size() - start
    _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)
