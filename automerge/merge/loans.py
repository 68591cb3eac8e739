"""Memory for merged tensors: lent a batch at a time, and lent again once every tensor that lies in it is gone.

New memory costs page faults, and zeroes written to all of it: a fifth of a search's merge, were it taken anew each
time. A receiver may keep a tensor as long as it likes: its memory is then not lent again, and more is taken from the
system. It knows no merge.
"""

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line, and more than any vector's
# Blocks that are kept at most: an engine, whose memory is set aside, holds them from merge to merge. Two, since whoever
# asks for the next tensor may well hold the last.
IDLE = 2

Memory = np.ndarray[Any, np.dtype[np.uint8]]


def room(elements: int, dtype: torch.dtype) -> int:
    """The bytes that a tensor takes of a loan."""
    return -(-elements * dtype.itemsize // ALIGNMENT) * ALIGNMENT


class Pool:
    """Lends blocks, and keeps some that come back. Threads may share it."""

    def __init__(self) -> None:
        # by id; only what is atomic is done to it, since finalizers run at any time
        self._idle: dict[int, Memory] = {}

    @property
    def idle(self) -> int:
        """Bytes that are kept for the next loans."""
        return sum(memory.nbytes for memory in list(self._idle.values()))

    def lend(self, size: int) -> "Loan":
        """A block of `size` bytes for the tensors of one batch."""
        memory = self._kept(size + ALIGNMENT)
        # an array of its own, which dies with the last tensor in it. Through a buffer: a plain slice of `memory`
        # would have its slices refer to `memory` itself
        lent = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return Loan(lent)

    def _kept(self, size: int) -> Memory:
        """The smallest that is idle and as large; or a new one, and what is too small goes back to the system."""
        for memory in sorted(self._idle.values(), key=len):
            if memory.nbytes >= size and self._idle.pop(id(memory), None) is not None:
                return memory
        self._idle.clear()
        return np.empty(size, np.uint8)

    def _take_back(self, memory: Memory) -> None:
        if len(self._idle) < IDLE:
            self._idle[id(memory)] = memory


POOL = Pool()  # of this process: a search's merges follow each other


class Loan:
    """A block that is being cut into tensors; let go of it when the last is cut."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._used = -memory.ctypes.data % ALIGNMENT

    def cut(self, elements: int, dtype: torch.dtype) -> Tensor:
        """[elements], uninitialised, aligned. Each has a storage of its own, as if it were alone."""
        if not elements:
            return torch.empty(0, dtype=dtype)
        tensor = torch.frombuffer(self._memory, dtype=dtype, count=elements, offset=self._used)
        self._used += room(elements, dtype)
        return tensor
