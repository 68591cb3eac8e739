"""What each config of configs/ is expected to give beside mergekit, and the check of it for one tensor.

| expectation | of ours and mergekit's bf16 results |
|---|---|
| bit | equal bit for bit |
| ulp | within one unit in the last place; or, where terms cancel, within ROUNDED or REDUCED of the largest |
| choice | equal, but where elements of equal magnitude at a threshold may be kept or dropped: there, every result of
          either tool is that of one of the possible choices |
| distribution | masks are random: keep rate, mean and variance lie where the probabilities put them |
| outcomes | so they are, of several sources: every result is what some choice of masks gives, and how often each choice
           was made, the mean and the variance lie where the probabilities put them (outcomes.py) |

The formulas here are written from the papers and from what mergekit was seen to do, apart from automerge's own code,
so that they judge both tools. Symbols: θ base, δ = x − θ, all fp32.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tests.peers.compare import bits_differ, ulps_apart

Kind = Literal["bit", "ulp", "choice", "distribution", "outcomes"]
# Where terms cancel, a result may be off by this share of the largest term: 8 fp32 roundings; and where mergekit's
# coefficients come from fp32 sums over a whole tensor (an angle of 0.015 came out 26 % too large), 1/128 bf16 ulp.
ROUNDED = 2.0**-21
REDUCED = 2.0**-15
LIMIT = 5.0  # standard deviations
NORM = 1e-3  # relative, of a delta's L1 norm after rescaling, which base + δ in fp32 gives

# Methods without reductions are equal bit for bit; what is not named here is "bit".
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("linear", "linear_plain"), "ulp"),  # mergekit's sum is a chain of fused multiply-adds
    **dict.fromkeys(("slerp", "slerp_models", "slerp_far", "slices_slerp"), "ulp"),
    **dict.fromkeys(("nuslerp", "nuslerp_base", "nuslerp_rows", "nuslerp_columns"), "ulp"),
    **dict.fromkeys(("multislerp", "multislerp_base", "multislerp_unnormalized", "multislerp_far"), "ulp"),
    **dict.fromkeys(("karcher", "karcher_steps", "karcher_far"), "ulp"),
    **dict.fromkeys(("model_stock", "model_stock_filter_wise", "sce", "sce_far"), "ulp"),
    "tokenizer_padded": "ulp",
    **dict.fromkeys(("ties", "ties_int8", "ties_rescale"), "choice"),
    **dict.fromkeys(("breadcrumbs", "breadcrumbs_thin", "breadcrumbs_ties"), "choice"),
    **dict.fromkeys(("sce_topk", "arcee_fusion", "arcee_fusion_near"), "choice"),
    **dict.fromkeys(("dare_linear", "dare_ties", "dare_linear_no_rescale"), "distribution"),
    **dict.fromkeys(("della", "della_linear", "della_linear_no_rescale"), "distribution"),
    **dict.fromkeys(("dare_linear_several", "dare_ties_several"), "outcomes"),
    **dict.fromkeys(("della_several", "della_linear_several"), "outcomes"),
}


def kind(config: str) -> Kind:
    """The expectation of a config by its name."""
    return KINDS.get(config, "bit")


def close(ours: Tensor, theirs: Tensor, inputs: Sequence[Tensor], share: float) -> Tensor:
    """Where two results are within one ulp, or, as terms cancel, within a share of the largest term."""
    near = ulps_apart(ours, theirs) <= 1
    if any(x.shape != ours.shape for x in inputs):  # a vocabulary was re-indexed: no telling which rows these are
        terms = torch.stack([x.float().abs().max() for x in inputs]).max()
    else:
        terms = torch.stack([x.float().abs() for x in inputs]).amax(dim=0)
    return near | ((ours.float() - theirs.float()).abs() <= share * terms)


def bf16(values: Tensor) -> Tensor:
    return values.to(torch.bfloat16)


# --- choices at a threshold ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """Of one source's elements: which are kept for sure, and which lie at a threshold and may be."""

    sure: Tensor
    maybe: Tensor


def largest(delta: Tensor, density: float) -> Kept:
    """The int(density · n) largest magnitudes, at least one."""
    size = delta.abs().flatten()
    count = max(1, int(density * size.numel()))
    threshold = size.sort(descending=True).values[count - 1]
    return Kept(delta.abs() > threshold, delta.abs() == threshold)


def middle(delta: Tensor, density: float, gamma: float) -> Kept:
    """int(density · n) elements below the int(gamma · n) largest; fewer of those are dropped if that is too many."""
    size = delta.abs().flatten().sort().values
    n = size.numel()
    count = int(density * n)
    first = max(0, n - count - int(gamma * n))
    low = size[first] if count else torch.inf
    high = size[first + count - 1] if count else -torch.inf
    inner = (delta.abs() > low) & (delta.abs() < high)
    at_low, at_high = delta.abs() == low, delta.abs() == high
    sure_low = at_low if first == 0 or size[first - 1] < low else torch.zeros_like(at_low)
    sure_high = at_high if first + count == n or size[first + count] > high else torch.zeros_like(at_high)
    return Kept(inner | sure_low | sure_high, (at_low & ~sure_low) | (at_high & ~sure_high))


def trimmed(config: Mapping[str, Any], base: Tensor, sources: Sequence[Tensor]) -> Iterator[Tensor]:
    """Every result, in bf16, that a trimming merge may give an element: one for each way to choose at thresholds."""
    options = config.get("parameters", {})
    each = [model["parameters"] for model in config["models"]]
    deltas = [x - base for x in sources]
    kept = [
        middle(delta, p["density"], p.get("gamma", 0.01))
        if config["merge_method"].startswith("breadcrumbs")
        else largest(delta, p["density"])
        for delta, p in zip(deltas, each, strict=True)
    ]
    factors = [1.0 for _ in deltas]
    if options.get("rescale", False):
        for n, (delta, p) in enumerate(zip(deltas, each, strict=True)):
            total = delta.abs().double().sum()
            top = (
                delta.abs().double().flatten().sort(descending=True).values[: max(1, int(p["density"] * delta.numel()))]
            )
            factors[n] = float(total / top.sum()) if float(top.sum()) > 1e-7 else 1.0
    for choice in itertools.product((False, True), repeat=len(deltas)):
        masked = [
            delta.masked_fill(~(k.sure | k.maybe if at else k.sure), 0.0) * factor
            for delta, k, at, factor in zip(deltas, kept, choice, factors, strict=True)
        ]
        yield bf16(combined(config, base, masked))


def combined(config: Mapping[str, Any], base: Tensor, masked: Sequence[Tensor]) -> Tensor:
    """The merge of deltas that are thinned already: weighed, by consensus of signs where the method has it; fp32."""
    options = config.get("parameters", {})
    weights = [model["parameters"]["weight"] for model in config["models"]]
    consensus = config["merge_method"].endswith("ties") or config["merge_method"] == "della"
    normalize = options.get("normalize", config["merge_method"] == "ties")
    parts = [delta * weight for delta, weight in zip(masked, weights, strict=True)]
    total = sum_of(parts)
    divisor = torch.zeros_like(base)
    if consensus:
        sign = torch.where(total >= 0, 1.0, -1.0)
        total = sum_of([part.masked_fill(part.sign() != sign, 0.0) for part in parts])
        for part, weight in zip(parts, weights, strict=True):
            divisor += (part.sign() == sign) * weight
    else:
        divisor += sum(weights)
    if normalize:
        total = total / divisor.masked_fill(divisor == 0, 1.0)
    return base + total * options.get("lambda", 1.0)


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """In order, from +0."""
    total = torch.zeros_like(parts[0])
    for part in parts:
        total = total + part
    return total


def selected(config: Mapping[str, Any], base: Tensor, sources: Sequence[Tensor]) -> Iterator[Tensor]:
    """The results of SCE's selection, for the ways to choose among the elements whose variance is, to fp32 rounding,
    the threshold's. All of them together is one way too."""
    deltas = torch.stack([x - base for x in sources])
    variance = deltas.double().var(dim=0, unbiased=False)
    count = int(int((variance > 0).sum()) * config["parameters"]["select_topk"])
    if not count:
        yield bf16(base)
        return
    threshold = variance.flatten().sort(descending=True).values[count - 1]
    near = (variance - threshold).abs() <= 1e-5 * threshold
    sure = (variance > threshold) & ~near
    places = near.flatten().nonzero().flatten().tolist()
    ways: Iterable[Sequence[int]] = [places]
    if 2 ** len(places) <= MOST_WAYS:
        ways = itertools.chain(ways, *(itertools.combinations(places, n) for n in range(len(places))))
    for way in ways:
        mask = sure.flatten().clone()
        mask[list(way)] = True
        chosen = deltas * mask.reshape(base.shape)
        energy = chosen.double().square().flatten(1).mean(dim=1)
        weights = energy / energy.sum() if float(energy.sum()) >= 1e-6 else torch.full_like(energy, 1 / len(energy))
        sign = torch.where(chosen.sum(dim=0) >= 0, 1.0, -1.0)
        part = (chosen.sign() == sign) * weights.float().reshape(-1, *(1 for _ in base.shape))
        merged = base + (chosen * part).sum(dim=0) / part.sum(dim=0).clamp(min=1e-6)
        yield bf16(merged)
        if way is places:  # the weights hardly depend on the way where there are many elements
            yield bf16(torch.where(near, base, merged))


MOST_WAYS = 512


def fused(config: Mapping[str, Any], base: Tensor, sources: Sequence[Tensor]) -> Iterator[Tensor]:
    """Arcee fusion takes or leaves an element's delta. Where rounding cannot turn the scales, only one is possible.

    importance = |δ| · KL(softmax of the source's row ‖ the base's). KL is a small difference of numbers near 1 in
    size, so its rounding in fp32 is a noise in absolute terms, whatever its own size: an ulp of 1 for each softmax's
    divisor, as an error of either moves KL by as much, or more, where torch's own fp32 is seen to be off by more (3
    ulp, in a row of 576).
    """
    del config
    (source,) = sources
    divergence = diverging(source.double(), base.double())
    noise = max(NOISE, float((diverging(source, base).double() - divergence).abs().amax()))
    size = (source - base).abs().double()
    importance = size * divergence
    ends = [thresholds(x.flatten()) for x in (importance - size * noise, importance + size * noise)]
    low = min(low for low, _ in ends) - noise * size.median()
    high = max(high for _, high in ends) + noise * size.median()
    taken, left = bf16(base + (source - base)), bf16(base)
    yield torch.where(importance + size * noise >= low, taken, left)
    yield torch.where(importance - size * noise >= high, taken, left)


def diverging(source: Tensor, base: Tensor) -> Tensor:
    """The rows' KL, in the inputs' dtype."""
    p, q = (torch.softmax(x, -1) + 1e-8 for x in (source, base))
    return (p * torch.log(p / q)).sum(-1, keepdim=True)


NOISE = 2 * 2.0**-23
SAMPLE = 1_000_000  # mergekit takes the quartiles of so many elements, drawn at random, where there are more


def thresholds(importance: Tensor) -> tuple[Tensor, Tensor]:
    """The median and one and a half times the distance between the quartiles: the least and the most it may be.

    They are one, but for the drawing of a sample, which moves a quartile's rank by 5 of its deviations at most.
    """
    ranked = importance.sort().values
    n = ranked.numel()
    slack = 5 * 0.5 / SAMPLE**0.5 if n > SAMPLE else 0.0
    (first, median, third), (first_high, median_high, third_high) = (
        [ranked[int(min(max(q + shift, 0.0), 1.0) * (n - 1))] for q in (0.25, 0.5, 0.75)] for shift in (-slack, slack)
    )
    return median + 1.5 * (third - first_high), median_high + 1.5 * (third_high - first)


CHOICES: dict[str, Callable[[Mapping[str, Any], Tensor, Sequence[Tensor]], Iterator[Tensor]]] = {
    "ties": trimmed,
    "breadcrumbs": trimmed,
    "breadcrumbs_ties": trimmed,
    "sce": selected,
    "arcee_fusion": fused,
}


def possible(config: Mapping[str, Any], merged: Tensor, base: Tensor, sources: Sequence[Tensor]) -> Tensor:
    """Where a result is one of the possible choices': bit for bit, or closely where a reduction enters."""
    exact = config["merge_method"] != "sce" and not config.get("parameters", {}).get("rescale", False)
    found = torch.zeros(merged.shape, dtype=torch.bool)
    for candidate in CHOICES[config["merge_method"]](config, base, sources):
        found |= ~bits_differ(merged, candidate) if exact else close(merged, candidate, [base, *sources], REDUCED)
    return found


# --- distributions ------------------------------------------------------------------------------------------------


def keep_probability(config: Mapping[str, Any], source: int, delta: Tensor) -> Tensor:
    """Each element's probability of being kept: DARE's density, or DELLA's by the rank of |δ| in its row."""
    parameters = config["models"][source]["parameters"]
    density, epsilon = parameters["density"], parameters.get("epsilon", 0.15)
    if config["merge_method"].startswith("dare"):
        return torch.full(delta.shape, density, dtype=torch.float64)
    rows = delta.abs() if delta.ndim > 1 else delta.abs()[None]
    rank = rows.argsort(dim=1, stable=True).argsort(dim=1, stable=True).double()
    return (density - epsilon + 2 * epsilon * rank / (rows.shape[1] - 1)).reshape(delta.shape)
