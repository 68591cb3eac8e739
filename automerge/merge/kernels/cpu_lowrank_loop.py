"""Rows of a low-rank product (sources/lowrank.py), compiled. Import it late: numba takes a while."""

from typing import Any

import numpy as np

from automerge.merge.kernels.cpu_cache import compiled

_ZERO = np.float32(0.0)
_TILE = 1024  # columns whose sums and factors stay in the first-level cache


@compiled()
def fill_rows(left: Any, right: Any, scale: Any, out: Any, first: int, last: int) -> None:
    """out[y] = scale · Σ_k left[k, y] right[k] for the rows first … last − 1; k ascending, from +0.0. All fp32."""
    rank, columns = right.shape
    for begin in range(0, columns, _TILE):
        end = min(begin + _TILE, columns)
        for y in range(first, last):
            row = out[y, begin:end]
            row[:] = _ZERO
            k = 0
            while k + 4 <= rank:  # four at a time, still one after another: the sum stays in a register
                a, b, c, d = left[k, y], left[k + 1, y], left[k + 2, y], left[k + 3, y]
                p, q = right[k, begin:end], right[k + 1, begin:end]
                r, s = right[k + 2, begin:end], right[k + 3, begin:end]
                for x in range(len(row)):
                    row[x] = (((row[x] + a * p[x]) + b * q[x]) + c * r[x]) + d * s[x]
                k += 4
            while k < rank:
                a, p = left[k, y], right[k, begin:end]
                for x in range(len(row)):
                    row[x] += a * p[x]
                k += 1
            for x in range(len(row)):
                row[x] *= scale
