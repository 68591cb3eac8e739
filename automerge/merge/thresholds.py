"""The magnitude a tensor's delta must have to be among its k largest. It knows no method.

Exact, by selection on one fp32 copy of |δ|; elements equal to the threshold are all kept.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from automerge.merge.models import Models


def threshold_of(models: Models, source: str, tensor: str, share: float, runs: Sequence[tuple[int, int]]) -> float:
    """The k-th largest |δ| of a source's tensor, k = int(share · n): keep what is at least that.

    Infinity where k is 0 (nothing is kept), 0 where k is n. `runs` are the tensor's flat ranges.
    """
    elements = torch.Size(models.shapes[tensor]).numel()
    kept = int(share * elements)
    if kept == 0:
        return math.inf
    if kept == elements:
        return 0.0
    magnitudes = np.empty(elements, dtype=np.float32)
    for start, stop in runs:
        base = models.base.values(tensor, start, stop)
        delta = models.sources[source].delta(tensor, base, start, stop)
        if delta is None:
            return 0.0
        magnitudes[start:stop] = delta.abs_().numpy()
    magnitudes.partition(elements - kept)
    return float(magnitudes[elements - kept])
