"""Sums over a whole tensor on the CPU's kernels: the numbers of measure/reductions.py and measure/norms.py.

The values are read as they are stored, once, by the threads of cpu.py. Here are the arrays of numbers that compiled
code sees; it needs no numba until something is measured.
"""

from typing import Any

import numpy as np
import torch

from automerge.merge.kernels.cpu import share_out
from automerge.merge.kernels.cpu_table import BAND, DROP, FORMATS, KEEP, RANKED, mask_keys
from automerge.merge.masks import BLOCK as KEYED
from automerge.merge.plan import Band, Drop, Mask, Ranked
from automerge.merge.values import Values

BLOCK = 4096  # elements
RUN = 256  # blocks a thread takes at once: about a quarter of a millisecond, several times what it costs to start one

DOT, SIZES, SQUARES, LARGEST = 0, 1, 2, 3  # of a block: Σ a·b, Σ|a|, Σ a², max|a|

Array = np.ndarray[Any, np.dtype[Any]]


def measurable(*values: Values) -> bool:
    """Whether compiled code can read them: contiguous, on the CPU, of a known format, and all of one length."""
    buffers = [one.base for one in values] + [one.operand.values for one in values if one.operand is not None]
    return all(
        buffer.device.type == "cpu"
        and buffer.is_contiguous()
        and buffer.dtype in FORMATS
        and buffer.numel() == values[0].n
        for buffer in buffers
    )


def sums_of_blocks(
    what: int, one: Values, other: Values | None = None, mask: Mask | None = None, *, threads: int | None = None
) -> list[float]:
    """Of each block of 4096: DOT's Σ a·b, or of the elements a that the mask keeps Σ|a|, Σ a², max|a|.

    `threads`: torch.get_num_threads() by default.
    """
    from automerge.merge.kernels.cpu_measure_loop import measure_blocks

    n, sums = one.n, np.zeros(-(-one.n // BLOCK))
    first, second, kept = described(one), described(one if other is None else other), _mask(mask, n)

    def task(begin: int) -> None:
        measure_blocks(what, begin, min(begin + RUN, len(sums)), n, first, second, *kept, sums)

    share_out([lambda begin=begin: task(begin) for begin in range(0, len(sums), RUN)], threads)  # type: ignore[misc]
    result: list[float] = sums.tolist()
    return result


def described(values: Values) -> Array:
    """int64 [6]: the base's address and format, the operand's (0 where there is none), whether it is a delta, whether
    deltas are asked for."""
    operand, asked = values.operand, int(values.what == "delta")
    base = [values.base.data_ptr(), FORMATS[values.base.dtype]]
    if operand is None:
        return np.array([*base, 0, 0, 0, asked], np.int64)
    place = [operand.values.data_ptr(), FORMATS[operand.values.dtype], int(operand.is_delta)]
    return np.array([*base, *place, asked], np.int64)


def _mask(mask: Mask | None, n: int) -> tuple[Array, Array, Array]:
    """int64 [4]: kind, level · 65536, addresses of ranks and levels; fp32 [2]: the band; uint32 [keyed blocks, 2]."""
    kind = {Drop: DROP, Ranked: RANKED, Band: BAND, type(None): KEEP}[type(mask)]
    level = mask.level << 16 if isinstance(mask, Drop) else 0
    ranks, levels = (mask.ranks.data_ptr(), mask.levels.data_ptr()) if isinstance(mask, Ranked) else (0, 0)
    band = (mask.low, mask.high) if isinstance(mask, Band) else (0.0, 0.0)
    keys = [mask_keys(mask, block) for block in range(-(-n // KEYED))] if isinstance(mask, Drop | Ranked) else []
    words = np.array(keys, np.uint32).reshape(-1, 2)
    return np.array([kind, level, ranks, levels], np.int64), np.array(band, np.float32), words


def readable(mask: Mask | None, n: int) -> bool:
    """Whether compiled code can read a mask: a Ranked one's arrays on the CPU, contiguous, of their dtypes."""
    if not isinstance(mask, Ranked):
        return True
    parts = ((mask.ranks, torch.uint16), (mask.levels, torch.int32))
    return mask.ranks.numel() == n and all(
        part.device.type == "cpu" and part.is_contiguous() and part.dtype == dtype for part, dtype in parts
    )
