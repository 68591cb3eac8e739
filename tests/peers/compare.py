"""Compares two checkpoint folders tensor by tensor: bits, distance in units in the last place, absolute distance.

A unit in the last place (ulp) is counted on the monotone integers of the number format: neighbours are 1 apart, and −0
and +0 are 0 apart (the count of differing bits tells them apart). Also the distribution of a dropped delta. Knows
nothing of automerge or of mergekit.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


@dataclass(frozen=True)
class Difference:
    """Of one tensor."""

    name: str
    elements: int
    differ: int  # elements whose bits differ
    over_one: int  # elements more than one ulp apart
    ulps: int  # the largest distance
    largest: float  # the largest absolute distance


def read(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, of one file or sharded. Raises ValueError for a folder without any."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if name in tensors:
                    raise ValueError(f"{folder}: {name} stands in two files")
                tensors[name] = file.get_tensor(name)
    if not tensors:
        raise ValueError(f"{folder} holds no safetensors")
    return tensors


def ordered(values: Tensor) -> Tensor:
    """The monotone integers of floating-point numbers, int64; −0 and +0 are both 0."""
    bits = values.contiguous().view(INTEGERS[values.dtype]).to(torch.int64)
    magnitude = bits & (0x7FFF if values.element_size() == 2 else 0x7FFFFFFF)
    return torch.where(bits < 0, -magnitude, magnitude)


def bits_differ(ours: Tensor, theirs: Tensor) -> Tensor:
    """Where the bits differ, a boolean of the tensors' shape."""
    integers = INTEGERS[ours.dtype]
    return ours.contiguous().view(integers) != theirs.contiguous().view(integers)


def ulps_apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """How many numbers of the format lie between, element by element."""
    return (ordered(ours) - ordered(theirs)).abs()


def same_layout(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """What differs in names, shapes and number formats, a line each; empty when nothing does."""
    lines = [f"only in ours: {name}" for name in sorted(ours.keys() - theirs.keys())]
    lines += [f"only in theirs: {name}" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name], theirs[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            lines.append(f"{name}: {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}")
    return lines


def difference(name: str, ours: Tensor, theirs: Tensor) -> Difference:
    """Of two tensors of one shape and format."""
    apart = ulps_apart(ours, theirs)
    distance = (ours.float() - theirs.float()).abs()
    return Difference(
        name,
        ours.numel(),
        int(bits_differ(ours, theirs).sum()),
        int((apart > 1).sum()),
        int(apart.max()) if apart.numel() else 0,
        float(distance.max()) if distance.numel() else 0.0,
    )


# What of config.json has to agree: the sizes a reader builds the model from.
CONFIG_KEYS = (
    "architectures",
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "vocab_size",
    "tie_word_embeddings",
    "dtype",
)


def config_differences(ours: Path, theirs: Path) -> list[str]:
    """The keys of config.json that a reader depends on and that differ, a line each."""
    a, b = (json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (ours, theirs))
    for config in (a, b):
        config.setdefault("dtype", config.get("torch_dtype"))
        config.setdefault("tie_word_embeddings", None)
    return [f"config.json {key}: {a.get(key)} and {b.get(key)}" for key in CONFIG_KEYS if a.get(key) != b.get(key)]


CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "one and two"}],
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ],
)


def tokenizer_differences(ours: Path, theirs: Path) -> tuple[list[str], dict[int, int]]:
    """What differs between the tokenizers: tokens, special tokens, a chat as the template writes it; and, where ids
    alone differ, each of their ids → ours."""
    from transformers import AutoTokenizer

    a, b = (AutoTokenizer.from_pretrained(folder) for folder in (ours, theirs))
    mine, other = a.get_vocab(), b.get_vocab()
    lines = [f"token {token!r} only in ours" for token in sorted(mine.keys() - other.keys())]
    lines += [f"token {token!r} only in theirs" for token in sorted(other.keys() - mine.keys())]
    if a.special_tokens_map != b.special_tokens_map:
        lines.append(f"special tokens: {a.special_tokens_map} and {b.special_tokens_map}")
    if (a.chat_template is None) != (b.chat_template is None):
        lines.append(f"chat template: {a.chat_template!r} and {b.chat_template!r}")
    for chat in CHATS if a.chat_template else ():
        for prompt in (True, False):
            texts = [t.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt) for t in (a, b)]
            if texts[0] != texts[1]:
                lines.append(f"a chat reads {texts[0]!r} and {texts[1]!r}")
    moved = {id_: mine[token] for token, id_ in other.items() if mine.get(token, id_) != id_}
    return lines, moved


def reordered(tensors: dict[str, Tensor], moved: dict[int, int]) -> dict[str, Tensor]:
    """The tensors with the rows of a vocabulary at other places."""
    result = dict(tensors)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if moved and name in tensors:
            result[name] = tensors[name].clone()
            result[name][list(moved.values())] = tensors[name][list(moved)]
    return result


@dataclass(frozen=True)
class Spread:
    """How a dropped delta lies beside what the drop's probabilities predict.

    With δ the source's delta where it is not zero, p the probability of keeping an element and s the factor of the kept
    ones: `off` is how far three sums are from their expectation, and `noise` the variance of each by the drop alone:
    the number kept (Σp), Σ(merged − base) (s·Σpδ), and Σ(merged − base)² (s²·Σpδ²): keep rate, mean and variance.
    """

    name: str
    elements: int
    kept: int
    off: tuple[float, float, float]
    noise: tuple[float, float, float]
    norm: float  # |Σ|merged − base| ÷ expected − 1|: with rescaling it is Σ|δ|, else Σ|δ| of the kept

    @property
    def deviations(self) -> tuple[float, ...]:
        """`off` in standard deviations."""
        return tuple(o / n**0.5 if n > 0 else 0.0 for o, n in zip(self.off, self.noise, strict=True))


def spread(name: str, base: Tensor, source: Tensor, merged: Tensor, keep: Tensor, rescale: bool) -> Spread | None:
    """The statistics of one tensor; None where the source does not differ from the base. All in float64.

    `keep` is each element's p. An element was kept where merged ≠ base. s is 1 without `rescale`, else what makes the
    kept elements' Σ|δ| that of all.
    """
    base, source, merged, keep = (x.double().flatten() for x in (base, source, merged, keep))
    moved = source != base
    delta, change, p = (source - base)[moved], (merged - base)[moved], keep[moved]
    if not delta.numel():
        return None
    kept = change != 0
    kept_sum = float(delta[kept].abs().sum())
    factor = float(delta.abs().sum()) / kept_sum if rescale and kept_sum > 0 else 1.0
    noise = p * (1 - p)
    off = (
        float(kept.sum() - p.sum()),
        float(change.sum() - factor * (p * delta).sum()),
        float((change**2).sum() - factor**2 * (p * delta**2).sum()),
    )
    variances = (
        float(noise.sum()),
        float(factor**2 * (noise * delta**2).sum()),
        float(factor**4 * (noise * delta**4).sum()),
    )
    norm = abs(float(change.abs().sum()) / (factor * kept_sum) - 1) if kept_sum > 0 else 0.0
    return Spread(name, int(moved.sum()), int(kept.sum()), off, variances, norm)


def pooled(spreads: list[Spread], smallest: int = 256) -> list[Spread]:
    """The same with all tensors of fewer than `smallest` elements as one: a normal law needs many."""
    small = [s for s in spreads if s.elements < smallest]
    rest = [s for s in spreads if s.elements >= smallest]
    if not small:
        return rest
    sums = [
        tuple(float(sum(values)) for values in zip(*rows, strict=True))
        for rows in ([s.off for s in small], [s.noise for s in small])
    ]
    (o0, o1, o2), (n0, n1, n2) = sums
    name, elements, kept = f"{len(small)} small tensors", sum(s.elements for s in small), sum(s.kept for s in small)
    return [*rest, Spread(name, elements, kept, (o0, o1, o2), (n0, n1, n2), max(s.norm for s in small))]
