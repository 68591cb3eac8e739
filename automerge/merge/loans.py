"""Memory for merged tensors: lent a batch at a time, and lent again once every tensor that lies in it is gone.

New memory costs a page fault a page, which is half as long as the merge itself. A receiver may keep a tensor as long as
it likes: its memory is then not lent again, and more is taken from the system. It knows no merge.
"""

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line, and more than any vector's
IDLE = 2  # blocks that are kept for the next loan: the last one's tensor is often still held

Memory = np.ndarray[Any, np.dtype[np.uint8]]


def room(elements: int, dtype: torch.dtype) -> int:
    """The bytes that a tensor takes of a loan."""
    return -(-elements * dtype.itemsize // ALIGNMENT) * ALIGNMENT


class Pool:
    """Lends blocks of `size` bytes. After `close` it gives what comes back to the system."""

    def __init__(self, size: int) -> None:
        self._size = size + ALIGNMENT
        self._idle: list[Memory] = []
        self._keeps = IDLE

    def lend(self) -> "Loan":
        """A block for the tensors of one batch."""
        memory: Memory = self._idle.pop() if self._idle else np.empty(self._size, np.uint8)
        # an array of its own, which dies with the last tensor in it. Through a buffer: a plain slice of `memory`
        # would have its slices refer to `memory` itself
        lent = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return Loan(lent)

    def close(self) -> None:
        """Frees what is idle; lent blocks are freed as they come back."""
        self._keeps = 0
        self._idle.clear()

    def _take_back(self, memory: Memory) -> None:
        if len(self._idle) < self._keeps:
            self._idle.append(memory)


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
