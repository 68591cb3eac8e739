"""What thinning several sources at random can give an element, and how often each of it has to be seen.

With k sources an element has 2^k outcomes, one a choice of masks, each with its probability. Where they all differ the
result tells which masks were drawn, of all sources together: so this sees masks that depend on one another, too.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.peers import expected

SMALLEST = 256  # elements: a normal law needs many


@dataclass
class Tally:
    """Of one tensor, or of several added up: how far counts and sums are from their expectation, and their variances.

    One number a choice of masks: how often it was drawn, of the elements that tell; then Σ(merged − mean) and
    Σ(merged − mean)² − Σ variance.
    """

    strange: int = 0  # elements that no choice of masks gives
    told: int = 0  # elements that tell their masks
    kept: int = 0  # of those, the masks that kept, of all sources
    elements: int = 0
    off: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    @property
    def deviations(self) -> list[float]:
        """`off` in standard deviations."""
        return [o / n**0.5 if n > 0 else 0.0 for o, n in zip(self.off, self.noise, strict=True)]


def tally(config: Mapping[str, Any], merged: Tensor, base: Tensor, sources: Sequence[Tensor]) -> Tally:
    """One tensor's. All tensors fp32; nothing may be rescaled by what the masks turned out to be."""
    deltas = [source - base for source in sources]
    keep = [expected.keep_probability(config, n, delta) for n, delta in enumerate(deltas)]
    choices = list(itertools.product((False, True), repeat=len(deltas)))
    given, chances = [], []
    for choice in choices:
        masked = [delta if kept else torch.zeros_like(delta) for delta, kept in zip(deltas, choice, strict=True)]
        given.append(expected.combined(config, base, masked).double().flatten())
        chance = torch.ones_like(keep[0])
        for p, kept in zip(keep, choice, strict=True):
            chance = chance * (p if kept else 1 - p)
        chances.append(chance.flatten())
    values, chance, result = torch.stack(given), torch.stack(chances), merged.double().flatten()
    scale = torch.stack([base.abs(), *(delta.abs() for delta in deltas)]).amax(dim=0).double().flatten()
    close = expected.ROUNDED * scale
    hit = (values - result).abs() <= close
    telling = (values[:, None] - values[None]).abs() > 4 * close
    telling |= torch.eye(len(choices), dtype=torch.bool)[:, :, None]
    tells = telling.flatten(0, 1).all(dim=0)

    found = Tally(int((~hit.any(dim=0)).sum()), int(tells.sum()), elements=result.numel())
    for n, choice in enumerate(choices):
        drawn, p = (hit[n] & tells).sum(), chance[n][tells]
        found.kept += int(drawn) * sum(choice)
        found.off.append(float(drawn - p.sum()))
        found.noise.append(float((p * (1 - p)).sum()))
    mean = (chance * values).sum(dim=0)
    second, fourth = ((chance * (values - mean) ** power).sum(dim=0) for power in (2, 4))
    found.off += [float((result - mean).sum()), float(((result - mean) ** 2 - second).sum())]
    found.noise += [float(second.sum()), float((fourth - second**2).sum())]
    return found


def pooled(tallies: Sequence[tuple[str, Tally]]) -> list[tuple[str, Tally]]:
    """The same with all tensors of fewer than SMALLEST elements as one."""
    small = [one for _, one in tallies if one.elements < SMALLEST]
    rest = [(name, one) for name, one in tallies if one.elements >= SMALLEST]
    if not small:
        return rest
    together = Tally(*(sum(getattr(one, key) for one in small) for key in ("strange", "told", "kept", "elements")))
    together.off, together.noise = (
        [sum(column) for column in zip(*(getattr(one, key) for one in small), strict=True)] for key in ("off", "noise")
    )
    return [*rest, (f"{len(small)} small tensors", together)]
