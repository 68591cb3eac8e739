"""SCE: select the elements that vary, weigh sources by their energy, erase minority signs. Paper: FuseChat,
arXiv:2408.07990 (F. Wan et al., 2024).

    δ̂_i   = δ_i where the variance of the δ over the sources is among the k largest of the tensor, else 0
    w_i    = mean(δ̂_i²) ÷ Σ_j mean(δ̂_j²), alike where that sum is 0
    sign   = + where Σ δ̂_i ≥ 0, else −
    merged = θ + Σ_agree w_i δ̂_i ÷ Σ_agree w_i, or θ where none agrees
k = int(z · select_topk) in fp32, where z elements have a (population) variance above 0; at `select_topk` 1 everything
is selected. Elements equal to the k-th stay together. Sources have no weights of their own, and elect unweighted.
`dialect: mergekit` weighs alike already where the sum is below 1e-6, as it is for most fine-tunes, and divides by 1e-6
where Σ_agree w_i is less.
"""

import math

import numpy as np
import torch
from torch import Tensor

from automerge.merge.measure.reductions import dot
from automerge.merge.measure.reductions import total as total_of
from automerge.merge.plan import Elementwise
from automerge.merge.registry import DIALECT, Method, Parameter, register
from automerge.merge.steps import fp32, total
from automerge.merge.view import View

SELECT_TOPK = Parameter("select_topk", "merge", 1.0, 0.0, 1.0, "share of varying elements merged", (0.1, 1.0))
SMALLEST = 1e-6  # mergekit's, for the energies' sum and for the divisor
RUN = 1 << 18


def plan(view: View) -> Elementwise:
    """Element by element: signs are elected on deltas that are not weighted."""
    threshold = _threshold(view)
    weights = [fp32(weight) for weight in _weights(view, threshold)]

    def merged(start: int, stop: int) -> Tensor:
        deltas = _selected(view, threshold, start, stop)
        base = view.base_values.read(start, stop)
        positive = total(deltas, base) >= 0.0
        summed, divisor = torch.zeros_like(base), torch.zeros_like(base)
        for delta, weight in zip(deltas, weights, strict=True):
            left_out = torch.where(positive, delta <= 0.0, delta >= 0.0)
            summed.add_((delta * weight).masked_fill_(left_out, 0.0))
            divisor.add_(torch.full_like(base, weight).masked_fill_(left_out, 0.0))
        if view.mergekit:
            divisor.clamp_(min=fp32(SMALLEST))
        return summed.div_(divisor.masked_fill_(divisor == 0.0, 1.0)).add_(base)

    return merged


def _selected(view: View, threshold: float, start: int, stop: int) -> list[Tensor]:
    """fp32 [stop − start] a source: δ̂."""
    deltas = [source.delta.read(start, stop) for source in view.sources]
    if threshold > 0.0:
        left_out = _variance(deltas) < threshold
        deltas = [delta.masked_fill_(left_out, 0.0) for delta in deltas]
    return deltas


def _variance(deltas: list[Tensor]) -> Tensor:
    count = torch.full((1,), float(len(deltas)), device=deltas[0].device)
    mean = total(deltas, deltas[0]).div_(count)
    return total([(delta - mean).square_() for delta in deltas], mean).div_(count)


def _threshold(view: View) -> float:
    """The variance an element must have; 0 where everything is selected, infinity where nothing is."""
    share = view.values["select_topk"]
    if share >= 1.0:
        return 0.0
    found = np.empty(view.n, dtype=np.float32)
    for start in range(0, view.n, RUN):
        stop = min(start + RUN, view.n)
        found[start:stop] = _variance([source.delta.read(start, stop) for source in view.sources]).cpu().numpy()
    k = int(np.float32(np.count_nonzero(found)) * np.float32(share))
    if not k:
        return math.inf
    found.partition(view.n - k)
    return float(found[view.n - k])


def _weights(view: View, threshold: float) -> list[float]:
    def energy(i: int) -> float:
        if not threshold:
            return dot(view.sources[i].delta, view.sources[i].delta) / max(1, view.n)
        return total_of(view.n, lambda a, b: _selected(view, threshold, a, b)[i].double().square_()) / max(1, view.n)

    energies = [energy(i) for i in range(len(view.sources))]
    together = sum(energies)
    if together == 0.0 or (view.mergekit and together < SMALLEST):
        return [1.0 / len(energies)] * len(energies)
    return [one / together for one in energies]


register(
    Method(
        name="sce",
        about="task vectors weighted by their energy, averaged where their signs agree, of the elements that vary most",
        paper="arXiv:2408.07990",
        parameters=(SELECT_TOPK,),
        options=(DIALECT,),
        plan=plan,
    )
)
