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
IDLE = 1  # block at most is kept: an engine, whose memory is set aside, holds it from merge to merge

Memory = np.ndarray[Any, np.dtype[np.uint8]]


def room(elements: int, dtype: torch.dtype) -> int:
    """The bytes that a tensor takes of a loan."""
    return -(-elements * dtype.itemsize // ALIGNMENT) * ALIGNMENT


class Pool:
    """Lends blocks, and keeps some that come back. Threads may share it."""

    def __init__(self) -> None:
        self._idle: list[Memory] = []

    @property
    def idle(self) -> int:
        """Bytes that are kept for the next loans."""
        return sum(memory.nbytes for memory in self._idle)

    def lend(self, size: int) -> "Loan":
        """A block of `size` bytes for the tensors of one batch."""
        memory = self._kept(size + ALIGNMENT)
        # an array of its own, which dies with the last tensor in it. Through a buffer: a plain slice of `memory`
        # would have its slices refer to `memory` itself
        lent = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return Loan(lent)

    def _kept(self, size: int) -> Memory:
        """One that is idle and as large, or a new one; smaller ones are given to the system."""
        while True:
            try:
                memory = self._idle.pop()  # finalizers run at any time, and in any thread: no look before it
            except IndexError:
                return np.empty(size, np.uint8)
            if memory.nbytes >= size:
                return memory

    def _take_back(self, memory: Memory) -> None:
        if len(self._idle) < IDLE:
            self._idle.append(memory)


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
