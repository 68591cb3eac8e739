"""Device code (Triton) of lowrank_cuda.py: one program fills ROWS × COLUMNS elements. It is no Python."""
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def fill_tile(left, right, out, scale, rank, n, m, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """out[y, x] = scale · Σ_k left[k, y] right[k, x]; k ascending, from +0.0."""
    y = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(rank):
        ahead = tl.load(left + k * n + y, mask=y < n, other=0.0)
        row = tl.load(right + k * m + x, mask=x < m, other=0.0)
        total += ahead[:, None] * row[None, :]
    places = y[:, None].to(tl.int64) * m + x[None, :]
    tl.store(out + places, total * scale, mask=(y < n)[:, None] & (x < m)[None, :])
