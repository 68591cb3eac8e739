"""How far each source moved from the base, layer by layer, and how far sources pull against each other.

‖δ‖ and the cosines of the sources' deltas over the tensors of a layer. For starting points and people to look at; no
merge depends on them, so they are summed as is fastest. Embeddings and heads of another size are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from automerge.merge.layout import place_of
from automerge.merge.models import Models
from automerge.merge.sources.source import Source

AT_ONCE = 1 << 24  # elements


@dataclass(frozen=True)
class Movement:
    """Of S sources over L layers."""

    base: list[float]  # [L] ‖θ‖
    moved: dict[str, list[float]]  # source → [L] ‖δ‖
    cosines: dict[tuple[str, str], list[float]]  # pair of sources → [L], 0 where one of them did not move

    def share(self, source: str) -> float:
        """‖δ‖ ÷ ‖θ‖ of the whole model."""
        return _norm(self.moved[source]) / max(_norm(self.base), 1e-30)


def movement(models: Models, tell: Callable[[int, int], None] = lambda done, total: None) -> Movement:
    """Reads every tensor of the layers once. `tell` is given (tensors done, in all)."""
    names = [name for name in models.tensor_names if place_of(name).layer is not None]
    sources = list(models.sources)
    pairs = list(combinations(sources, 2))
    squares = {key: [0.0] * models.n_layers for key in ["", *sources]}
    dots = {pair: [0.0] * models.n_layers for pair in pairs}
    for number, name in enumerate(names):
        layer = place_of(name).layer or 0
        base = models.base.stored(name).view(-1)
        wholes = {source: _whole(models.sources[source], name) for source in sources}
        for start in range(0, base.numel(), AT_ONCE):
            part = base[start : start + AT_ONCE].float()
            deltas = {source: _delta(whole, part, start) for source, whole in wholes.items()}
            squares[""][layer] += float(part.square().sum(dtype=torch.float64))
            for source, delta in deltas.items():
                squares[source][layer] += float(delta.square().sum(dtype=torch.float64))
            for pair in pairs:
                dots[pair][layer] += float((deltas[pair[0]] * deltas[pair[1]]).sum(dtype=torch.float64))
        tell(number + 1, len(names))
    norms = {key: [square**0.5 for square in found] for key, found in squares.items()}
    cosines = {
        pair: [dot / a / b if a and b else 0.0 for dot, a, b in zip(found, norms[pair[0]], norms[pair[1]], strict=True)]
        for pair, found in dots.items()
    }
    return Movement(norms.pop(""), norms, cosines)


def _whole(source: Source, name: str) -> tuple[bool, Tensor] | None:
    """(whether it is a delta, the flat values); None where the source does not change the tensor."""
    if not source.changes(name):
        return None
    stored = source.stored(name)
    return (True, source.whole_delta(name).view(-1)) if stored is None else (False, stored.reshape(-1))


def _delta(whole: tuple[bool, Tensor] | None, base: Tensor, start: int) -> Tensor:
    if whole is None:
        return torch.zeros_like(base)
    is_delta, values = whole
    part = values[start : start + base.numel()].float()
    return part if is_delta else part - base


def _norm(values: list[float]) -> float:
    return float(sum(value**2 for value in values) ** 0.5)
