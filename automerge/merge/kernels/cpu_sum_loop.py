"""The compiled part of cpu_sum.py. Import it late."""

from typing import Any

import numpy as np

from automerge.merge.kernels.cpu_cache import compiled
from automerge.merge.kernels.cpu_words import sum_words

BLOCK = 512  # words: their hashes stay in the first-level cache


@compiled()
def sum_chunk(address: Any, words: Any, first: Any, sums: Any) -> None:
    """sums[0], sums[1] = Σ t, Σ t · (2j + 1) of checksum.py over so many words at an address, of which the first is the
    tensor's `first`-th."""
    hashes = np.empty(BLOCK, np.int32)
    total = np.int64(0)
    placed = np.int64(0)
    for start in range(0, words, BLOCK):
        count = min(BLOCK, words - start)
        terms, places = sum_words(address + 4 * start, count, first + start, hashes)
        total += terms
        placed += 2 * places + (2 * (first + start) + 1) * terms
    sums[0] = total
    sums[1] = placed
