"""Arcee Fusion: take the source's elements that matter most, leave the base's elsewhere. Source: mergekit (Arcee AI).

    importance = |δ| · KL,   KL = Σ p ln(p ÷ q) over the row,   p = softmax(x) + 1e-8,   q = softmax(θ) + 1e-8
    merged     = θ + δ where importance ≥ median + 1.5 · (third quartile − first quartile), else θ
Rows lie along the last dimension; a tensor of one dimension is one row. The quartiles are the elements at ⌊n'/4⌋,
⌊2n'/4⌋ and ⌊3n'/4⌋, n' = n − 1, of the sorted importance, without interpolation.

The mask is made once, on the host, with the same bytes everywhere: exp and ln of elementary.py and sums of lines.py in
float64, KL rounded to fp32, importance and threshold in fp32. mergekit does all of it in fp32, where the KL of near
models is mostly rounding, and takes the quartiles of a million elements drawn at random where there are more: its mask
differs from this one near the threshold.
"""

import numpy as np
import torch
from torch import Tensor

from automerge.merge.measure.elementary import Array, exp, log
from automerge.merge.measure.lines import RUN, halved
from automerge.merge.plan import Elementwise
from automerge.merge.registry import Method, register
from automerge.merge.values import Values
from automerge.merge.view import SourceView, View

SMALLEST = 1e-8


def plan(view: View) -> Elementwise:
    """Element by element, with a mask from the whole tensor."""
    (source,) = view.sources
    mask = _mask(view, source).to(view.base.device)

    def merged(start: int, stop: int) -> Tensor:
        delta = source.delta.read(start, stop).mul_(mask[start:stop].to(torch.float32))
        return delta.add_(view.base_values.read(start, stop))

    return merged


def _mask(view: View, source: SourceView) -> Tensor:
    """bool [n]."""
    columns = view.shape[-1] if view.shape else 1
    importance = np.empty(view.n, dtype=np.float32)
    step = max(1, RUN // max(1, columns)) * columns
    for start in range(0, view.n, max(1, step)):
        stop = min(start + step, view.n)
        p, q = (_softmax(values, start, stop, columns) for values in (source.weights, view.base_values))
        divergence = _sums(p * log(p / q)).astype(np.float32)
        sizes = source.delta.read(start, stop).abs_().cpu().numpy().reshape(-1, columns)
        importance[start:stop] = (sizes * divergence).reshape(-1)
    if not view.n:
        return torch.empty(0, dtype=torch.bool)
    places = [quarter * (view.n - 1) // 4 for quarter in (1, 2, 3)]
    first, median, third = np.partition(importance, places)[places]
    return torch.from_numpy(importance >= median + np.float32(1.5) * (third - first))


def _softmax(values: Values, start: int, stop: int, columns: int) -> Array:
    """float64 [rows, columns]."""
    rows = values.read(start, stop).cpu().numpy().astype(np.float64).reshape(-1, columns)
    raised = exp(np.maximum(rows - rows.max(axis=1, keepdims=True), -1000.0))
    return raised / _sums(raised) + SMALLEST


def _sums(rows: Array) -> Array:
    """float64 [rows, 1]."""
    return halved(torch.from_numpy(rows)).numpy().reshape(-1, 1)


register(
    Method(
        name="arcee_fusion",
        about="the source's elements that matter most, the base's elsewhere",
        paper="https://github.com/arcee-ai/mergekit",
        parameters=(),
        plan=plan,
        sources=(1, 1),
    )
)
