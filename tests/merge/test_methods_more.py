"""The other methods: numpy twins written from the formulas, cases by hand, identities, what holds for every method."""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from automerge.errors import ConfigError, MergeError
from automerge.merge.masks import MaskStream
from automerge.merge.measure import elementary
from automerge.merge.measure.lines import columns, rows
from automerge.merge.measure.norms import NORMS, masked_norm, ranked_norm, smallest_size
from automerge.merge.plan import Band, Drop, Plan
from automerge.merge.registry import get_method, method_names
from automerge.merge.values import Operand, Values
from automerge.merge.view import View
from tests.merge import reference
from tests.merge.views import complete, make_view, run

F = np.float32
SHAPES = [(0,), (1,), (9,), (4, 8), (3, 1), (0, 4), (), (2, 3, 5), (70, 33)]
Arrays = dict[str, np.ndarray]

# for every method: sources, values of a source, of the merge, options
EXAMPLES: dict[str, tuple[int, dict[str, float], dict[str, float], dict[str, Any]]] = {
    "arcee_fusion": (1, {}, {}, {}),
    "breadcrumbs": (3, {"weight": 0.7, "density": 0.6, "gamma": 0.1}, {"lambda": 0.9}, {}),
    "breadcrumbs_ties": (3, {"weight": 0.7, "density": 0.6, "gamma": 0.1}, {"lambda": 0.9}, {}),
    "dare_linear": (3, {"weight": 0.7, "drop": 0.4}, {"lambda": 0.9}, {}),
    "dare_ties": (3, {"weight": 0.7, "drop": 0.4}, {"lambda": 0.9}, {}),
    "dare_weights": (3, {"weight": 0.7, "drop": 0.4}, {}, {}),
    "della": (3, {"weight": 0.7, "drop": 0.4, "epsilon": 0.3}, {"lambda": 0.9}, {}),
    "della_linear": (3, {"weight": 0.7, "drop": 0.4, "epsilon": 0.3}, {"lambda": 0.9}, {}),
    "karcher": (3, {}, {}, {}),
    "linear": (3, {"weight": 0.7}, {}, {}),
    "magnitude_linear": (3, {"weight": 0.7, "drop": 0.4}, {"lambda": 0.9}, {}),
    "model_stock": (3, {}, {}, {}),
    "multislerp": (3, {"weight": 0.7}, {}, {}),
    "nearswap": (1, {}, {"t": 0.05}, {}),
    "nuslerp": (2, {"weight": 0.7}, {}, {}),
    "passthrough": (1, {"scale": 0.7}, {}, {}),
    "ram": (3, {}, {"epsilon": 0.05}, {}),
    "ramplus_tl": (3, {}, {"epsilon": 0.05}, {}),
    "sce": (3, {}, {"select_topk": 0.5}, {}),
    "slerp": (2, {}, {"t": 0.3}, {}),
    "task_arithmetic": (3, {"weight": 0.7}, {"lambda": 0.9}, {}),
    "ties": (3, {"weight": 0.7, "density": 0.6}, {"lambda": 0.9}, {}),
}


def family(shape: tuple[int, ...], count: int, seed: int = 0, spread: float = 0.3) -> tuple[np.ndarray, Arrays]:
    """fp32 base and sources, a quarter of their deltas 0, zeros of both signs among the weights."""
    rng = np.random.default_rng((seed, count, *shape))
    base = np.where(rng.random(shape) < 0.1, -0.0, rng.normal(size=shape)).astype(F)
    sources = {}
    for name in "abcdef"[:count]:
        delta = np.where(rng.random(shape) < 0.25, 0.0, rng.normal(size=shape) * spread)
        sources[name] = np.where(rng.random(shape) < 0.1, 0.0, base + delta).astype(F)
    return base, sources


def example(method: str, shape: tuple[int, ...], seed: int = 0) -> View:
    count, values, merge, options = EXAMPLES[method]
    base, sources = family(shape, count, seed)
    return make_view(base, sources, values, merge, options)


def bits(tensor: torch.Tensor) -> list[int]:
    found: list[int] = tensor.reshape(-1).view(torch.int16 if tensor.element_size() == 2 else torch.int32).tolist()
    return found


def test_every_method_has_an_example() -> None:
    assert tuple(EXAMPLES) == method_names()


# --- twins -----------------------------------------------------------------------------------------------------------


def deltas_of(base: np.ndarray, sources: Arrays) -> list[np.ndarray]:
    return [(x - base).astype(np.float64) for x in sources.values()]


def twin_slerp(base: np.ndarray, sources: Arrays, t: float) -> np.ndarray:
    a, b = (np.float64(x) for x in ([base] if len(sources) == 1 else []) + list(sources.values()))
    cos = (a * b).sum() / (np.linalg.norm(a) or 1.0) / (np.linalg.norm(b) or 1.0)
    if abs(cos) > 0.9995:
        return (1 - t) * a + t * b
    angle = np.arccos(np.clip(cos, -1, 1))
    return np.sin((1 - t) * angle) / np.sin(angle) * a + np.sin(t * angle) / np.sin(angle) * b


def twin_nuslerp(a: np.ndarray, b: np.ndarray, t: float, axis: int | None) -> np.ndarray:
    def length(v: np.ndarray) -> np.ndarray:
        return np.maximum(np.sqrt((v * v).sum(axis=axis, keepdims=True)), 1e-7)

    cos = np.clip((a / length(a) * (b / length(b))).sum(axis=axis, keepdims=True), -1, 1)
    straight = 1 - np.abs(cos) < 3e-8
    angle = np.arccos(np.where(straight, 0.0, cos))
    arc = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.where(straight, (1 - t) * a + t * b, arc)


def twin_multislerp(vectors: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """With the tangent space left in, as mergekit describes it."""
    eps = 1e-8
    lengths = [np.linalg.norm(v) for v in vectors]
    units = [v / (length + eps) for v, length in zip(vectors, lengths, strict=True)]
    mean = sum(w * u for w, u in zip(weights, units, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(w * (u - (u * mean).sum() * mean) for w, u in zip(weights, units, strict=True))
    size = np.linalg.norm(tangent) + eps
    direction = mean * np.cos(size) + tangent * (np.sin(size) / size)
    return np.asarray(direction * sum(w * length for w, length in zip(weights, lengths, strict=True)))


def twin_karcher(models: list[np.ndarray]) -> np.ndarray:
    lengths = [np.linalg.norm(x) for x in models]
    units = [x / length for x, length in zip(models, lengths, strict=True) if length > 1e-5]
    if not units:
        return np.zeros_like(models[0])
    mean = sum(units) / len(units)
    mean = mean / np.linalg.norm(mean) if np.linalg.norm(mean) >= 1e-5 else units[0]
    for _ in range(10):
        tangent = np.zeros_like(mean)
        for unit in units:
            cos = np.clip((mean * unit).sum(), -1, 1)
            angle = np.arccos(cos)
            if angle >= 1e-5 and np.sin(angle) >= 1e-5:
                tangent += angle / np.sin(angle) * (unit - cos * mean) / len(units)
        size = np.linalg.norm(tangent)
        if size < 1e-5:
            break
        mean = np.cos(size) * mean + np.sin(size) * tangent / size
        mean /= np.linalg.norm(mean)
    return np.asarray(np.mean(lengths) * mean)


def twin_model_stock(base: np.ndarray, sources: Arrays, least: float, axis: int | None) -> np.ndarray:
    cosines = []
    for a, b in combinations(deltas_of(base, sources), 2):
        size = np.sqrt((a * a).sum(axis=axis, keepdims=True)) * np.sqrt((b * b).sum(axis=axis, keepdims=True))
        size = np.maximum(size, least)
        cosines.append((a * b).sum(axis=axis, keepdims=True) / np.where(size == 0, 1.0, size))
    n, c = len(sources), sum(cosines) / len(cosines)
    below = 1 + (n - 1) * c
    t = np.where(np.abs(below) < 1e-6, 0.0, n * c / np.where(np.abs(below) < 1e-6, 1.0, below))
    return t * sum(np.float64(x) for x in sources.values()) / n + (1 - t) * base


def twin_sce(base: np.ndarray, sources: Arrays, share: float, mergekit: bool) -> np.ndarray:
    stack = np.stack([x - base for x in sources.values()])
    if share < 1:
        count = F(len(stack))
        mean = sum(stack) / count  # fp32, so that the same elements are selected
        variance = sum((d - mean) ** 2 for d in stack) / count
        k = int(F(np.count_nonzero(variance)) * F(share))
        least = np.sort(variance, axis=None)[variance.size - k] if k else np.inf
        stack = np.where(variance >= least, stack, F(0))
    energy = (stack.astype(np.float64) ** 2).reshape(len(stack), -1).mean(axis=1) if base.size else np.zeros(len(stack))
    alike = energy.sum() < 1e-6 if mergekit else energy.sum() == 0
    weights = np.full(len(stack), 1 / len(stack)) if alike else energy / energy.sum()
    sign = np.where(sum(stack) >= 0, 1, -1)
    top, below = np.zeros(base.shape), np.zeros(base.shape)
    for delta, weight in zip(stack, weights, strict=True):
        agrees = np.sign(delta) == sign
        top, below = top + np.where(agrees, weight * delta, 0), below + np.where(agrees, weight, 0)
    return base + top / (np.maximum(below, 1e-6) if mergekit else np.where(below == 0, 1, below))


def twin_ram(base: np.ndarray, sources: Arrays, epsilon: float, r: float = 0.0, alpha: float = 0.0) -> np.ndarray:
    stack = np.stack([x - base for x in sources.values()])
    changed = np.abs(stack) > F(epsilon)
    count = changed.sum(axis=0)
    out = base.astype(np.float64)
    for delta, own in zip(stack, changed, strict=True):
        shared, alone = (own & (count > 1)).sum(), (own & (count == 1)).sum()
        factor = 1 + r * min(shared / max(alone, epsilon), alpha)
        out = out + np.where(own, np.where(count > 1, delta / np.maximum(count, 1), factor * delta), 0)
    return out


def twin_arcee(base: np.ndarray, source: np.ndarray) -> np.ndarray:
    def softmax(x: np.ndarray) -> np.ndarray:
        raised = np.exp(np.float64(x) - np.float64(x).max(axis=-1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True) + 1e-8)

    if not base.size:
        return base.astype(np.float64)
    p, q = softmax(np.atleast_1d(source)), softmax(np.atleast_1d(base))
    divergence = (p * np.log(p / q)).sum(axis=-1, keepdims=True).reshape((*base.shape[:-1], 1) if base.shape else ())
    importance = np.abs(source - base) * divergence.astype(F)
    ordered = np.sort(importance, axis=None)
    first, median, third = (ordered[quarter * (base.size - 1) // 4] for quarter in (1, 2, 3))
    return base + np.where(importance >= median + F(1.5) * (third - first), source - base, F(0)).astype(np.float64)


def twin_banded(delta: np.ndarray, density: float, gamma: float) -> np.ndarray:
    n = delta.size
    kept, top = int(density * n), int(gamma * n)
    bottom = max(0, n - kept - top)
    if not kept:
        return np.zeros_like(delta)
    ordered = np.sort(np.abs(delta), axis=None)
    low, high = (ordered[bottom] if bottom else 0), (ordered[bottom + kept - 1] if bottom + kept < n else np.inf)
    return np.where((np.abs(delta) >= low) & (np.abs(delta) <= high), delta, 0)


def twin_magprune(delta: np.ndarray, name: str, p: float, half: float, by_paper: bool) -> np.ndarray:
    """float64; `delta` has rows of two elements or more."""
    ranks = np.argsort(np.argsort(np.abs(delta), axis=-1, kind="stable"), axis=-1, kind="stable")
    rates = p + half - 2 * half * ranks / (delta.shape[-1] - 1)
    levels = np.minimum(np.round(rates * 65536), 65535)
    lanes = np.array([reference.lane(0, name, "t", i) for i in range(delta.size)]).reshape(delta.shape)
    return np.where(lanes < levels, 0.0, delta / (1 - levels / 65536) if by_paper else delta)


def close(got: torch.Tensor, wanted: np.ndarray, *terms: np.ndarray) -> None:
    """Equal to 4 units of fp32's last place at the size of the largest term."""
    assert got.dtype == torch.float32 and tuple(got.shape) == wanted.shape
    scale = max((float(np.abs(term).max(initial=0)) for term in (wanted, *terms)), default=0.0)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=4 * 2.0**-24 * scale + 1e-45)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp(shape: tuple[int, ...], t: float) -> None:
    for count in (1, 2):
        for spread in (0.001, 0.5, 5.0):
            base, sources = family(shape, count, spread=spread)
            got = run("slerp", make_view(base, sources, merge_values={"t": t}))
            close(got, twin_slerp(base, sources, t), base, *sources.values())


@pytest.mark.parametrize("on", ["delta", "weights"])
@pytest.mark.parametrize("vectors", ["tensor", "rows", "columns"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nuslerp(shape: tuple[int, ...], vectors: str, on: str) -> None:
    base, sources = family(shape, 2, spread=2.0)
    axis = {"tensor": None, "rows": -1, "columns": 0}[vectors] if shape else None
    for weights in ((1.0, 1.0), (0.2, 1.4), (1.0, 0.0), (0.5, -0.5), (2.0, -0.5)):
        values = {"a": {"weight": weights[0]}, "b": {"weight": weights[1]}}
        got = run("nuslerp", make_view(base, sources, values, options={"on": on, "vectors": vectors}))
        t = 0.5 if sum(weights) == 0 else weights[1] / sum(weights)
        pair = deltas_of(base, sources) if on == "delta" else [np.float64(x) for x in sources.values()]
        wanted = twin_nuslerp(*pair, t, axis)
        near_opposite = 30.0  # sin Ω small: the factors are large
        close(got, base + wanted if on == "delta" else wanted, *(near_opposite * x for x in (base, *pair)))


@pytest.mark.parametrize("on", ["delta", "weights"])
@pytest.mark.parametrize("shape", SHAPES)
def test_multislerp(shape: tuple[int, ...], on: str) -> None:
    for count, weights in ((2, [1.0, 3.0]), (3, [0.5, 0.25, 1.0]), (3, [1.0, -0.5, 0.75])):
        base, sources = family(shape, count)
        vectors = deltas_of(base, sources) if on == "delta" else [np.float64(x) for x in sources.values()]
        values = {name: {"weight": w} for name, w in zip(sources, weights, strict=True)}
        shares = [w / sum(weights) for w in weights]
        if all(np.linalg.norm(v) == 0 for v in vectors):
            wanted = np.zeros(shape)
        elif (
            np.linalg.norm(sum(w * v / (np.linalg.norm(v) + 1e-8) for w, v in zip(shares, vectors, strict=True))) < 1e-8
        ):
            continue
        else:
            wanted = twin_multislerp(vectors, shares)
        got = run("multislerp", make_view(base, sources, values, options={"on": on}))
        close(got, base + wanted if on == "delta" else wanted, base, *(4 * v for v in vectors))


@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_karcher(shape: tuple[int, ...], with_base: bool) -> None:
    for count, spread in ((2, 0.1), (3, 1.0), (4, 5.0)):
        base, sources = family(shape, count, spread=spread)
        models = [np.float64(x) for x in sources.values()] + [np.float64(base)] * with_base
        got = run("karcher", make_view(base, sources, options={"with_base": with_base}))
        if np.prod(shape) != 1:  # on a line directions can be opposite: their mean is anywhere
            assert np.abs(got.numpy() - twin_karcher(models)).max(initial=0) < 3e-6 * max(spread, 1)


@pytest.mark.parametrize("dialect", ["papers", "mergekit"])
@pytest.mark.parametrize("filter_wise", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_model_stock(shape: tuple[int, ...], filter_wise: bool, dialect: str) -> None:
    for count, spread in ((2, 0.3), (4, 1e-4)):
        base, sources = family(shape, count, spread=spread)
        got = run("model_stock", make_view(base, sources, options={"filter_wise": filter_wise, "dialect": dialect}))
        axis = -1 if filter_wise and shape else None
        wanted = twin_model_stock(base, sources, 1e-6 if dialect == "mergekit" else 0.0, axis)
        close(got, wanted, base, *(4 * x for x in sources.values()), 1e-5 * np.float64(bool(wanted.size)))


@pytest.mark.parametrize("dialect", ["papers", "mergekit"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_sce(shape: tuple[int, ...], share: float, dialect: str) -> None:
    for count, spread in ((1, 0.3), (3, 0.3), (4, 1e-4)):
        base, sources = family(shape, count, spread=spread)
        got = run("sce", make_view(base, sources, merge_values={"select_topk": share}, options={"dialect": dialect}))
        close(got, twin_sce(base, sources, share, dialect == "mergekit"), base, *sources.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_ram(shape: tuple[int, ...]) -> None:
    base, sources = family(shape, 4)
    close(run("ram", make_view(base, sources, merge_values={"epsilon": 0.1})), twin_ram(base, sources, 0.1), base)
    merge = {"epsilon": 0.1, "r": 0.3, "alpha": 0.7}
    close(run("ramplus_tl", make_view(base, sources, merge_values=merge)), twin_ram(base, sources, 0.1, 0.3, 0.7), base)


@pytest.mark.parametrize("shape", SHAPES)
def test_nearswap_passthrough_and_arcee_fusion(shape: tuple[int, ...]) -> None:
    base, sources = family(shape, 1)
    (x,) = sources.values()
    for t in (0.0, 0.05, 0.5):
        share = np.clip(t / np.maximum(np.abs(np.float64(base - x)), 1e-6), 0, 1)
        close(run("nearswap", make_view(base, sources, merge_values={"t": t})), share * x + (1 - share) * base, base, x)
    close(run("passthrough", make_view(base, sources, {"scale": -0.3})), np.float64(-0.3) * x, x)
    close(run("arcee_fusion", make_view(base, sources)), twin_arcee(base, x), base, x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.3, 1.0])
def test_breadcrumbs(shape: tuple[int, ...], density: float, gamma: float) -> None:
    base, sources = family(shape, 3)
    ws = [1.0, 0.5, -0.75]
    values = {n: {"weight": w, "density": density, "gamma": gamma} for n, w in zip(sources, ws, strict=True)}
    parts = [w * twin_banded(d, density, gamma) for w, d in zip(ws, deltas_of(base, sources), strict=True)]
    got = run("breadcrumbs", make_view(base, sources, values, {"lambda": 0.5}))
    close(got, base + 0.5 * sum(parts), base, *parts)
    got = run("breadcrumbs_ties", make_view(base, sources, values, {"lambda": 0.5}))
    close(
        got, base + 0.5 * reference.agreed([part.astype(F) for part in parts], ws, True), base, *(9 * p for p in parts)
    )


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape and shape[-1] > 1])
@pytest.mark.parametrize(("p", "epsilon"), [(0.5, 0.3), (0.05, 0.3), (0.99, 0.3), (0.3, 0.0)])
def test_della(shape: tuple[int, ...], p: float, epsilon: float) -> None:
    base, sources = family(shape, 2)
    values = {"a": {"weight": 1.0}, "b": {"weight": -0.5}}
    values = {name: {**own, "drop": p, "epsilon": epsilon} for name, own in values.items()}
    half = min(epsilon / 2, p, 1 - p)
    pairs = list(zip("ab", deltas_of(base, sources), strict=True))
    for rescale in (True, False):
        parts = [values[name]["weight"] * twin_magprune(delta, name, p, half, rescale) for name, delta in pairs]
        got = run("della_linear", make_view(base, sources, values, options={"rescale": rescale}))
        close(got, base + sum(parts), base, *(2 * part for part in parts))
        got = run("della", make_view(base, sources, values, {"lambda": 0.5}, {"rescale": rescale}))
        wanted = reference.agreed([part.astype(F) for part in parts], [1.0, -0.5], True)
        close(got, base + 0.5 * wanted, base, *(4 * part for part in parts))
    if p - epsilon > 0 and p + epsilon < 1:
        kept = [twin_magprune(delta, name, p, epsilon, False) for name, delta in pairs]
        ratios = [np.abs(d).sum() / (np.abs(k).sum() or 1.0) for (_, d), k in zip(pairs, kept, strict=True)]
        wanted = base + ratios[0] * kept[0] - 0.5 * ratios[1] * kept[1]
        got = run("della_linear", make_view(base, sources, values, options={"dialect": "mergekit"}))
        close(got, wanted, base, *(4 * max(ratios) * k for k in kept))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.0, 0.2, 0.7])
def test_mergelms_own(shape: tuple[int, ...], p: float) -> None:
    base, sources = family(shape, 2)
    values = {"a": {"weight": 1.0, "drop": p}, "b": {"weight": 0.5, "drop": p / 2}}
    for rescale in (True, False):
        parts = []
        for name, x in sources.items():
            level = round(values[name]["drop"] * 65536)
            lanes = np.array([reference.lane(0, name, "t", i) for i in range(x.size)]).reshape(shape)
            kept = np.where(lanes >= level, np.float64(x), 0)
            parts.append(values[name]["weight"] * kept / (1 - level / 65536 if rescale else 1))
        got = run("dare_weights", make_view(base, sources, values, options={"rescale": rescale}))
        close(got, sum(parts) / 1.5, *parts)
        wanted = base.astype(np.float64)
        for own, delta in zip(values.values(), deltas_of(base, sources), strict=True):
            kept = twin_banded(delta, (delta.size - int(own["drop"] * delta.size)) / max(1, delta.size), 0.0)
            wanted = wanted + own["weight"] * kept / (1 - own["drop"] if rescale else 1)
        got = run("magnitude_linear", make_view(base, sources, values, options={"rescale": rescale}))
        close(got, wanted, 4 * base)


# --- by hand ---------------------------------------------------------------------------------------------------------


def hand(method: str, base: list[float], *sources: list[float], **rest: Any) -> list[float]:
    named = dict(zip("abcdef", sources, strict=False))
    merged: list[float] = run(method, make_view(base, named, **rest)).tolist()
    return merged


def test_arcs_by_hand() -> None:
    half = pytest.approx([math.sqrt(0.5)] * 2)
    assert hand("slerp", [1, 0], [0, 1]) == half
    assert hand("slerp", [9, 9], [1, 0], [0, 1]) == half
    assert hand("slerp", [1, 0], [2, 0]) == [1.5, 0]  # parallel: the straight line
    assert hand("slerp", [1, 0], [-1, 0], merge_values={"t": 0.25}) == [0.5, 0]  # and opposite
    assert hand("slerp", [0, 0], [4, 0], merge_values={"t": 0.5}) == pytest.approx([4 * math.sqrt(0.5), 0])  # cos is 0
    assert hand("nuslerp", [1, 1], [3, 1], [1, 3]) == pytest.approx([1 + math.sqrt(2)] * 2)
    assert hand("nuslerp", [1, 1], [3, 1], [-1, 1], values={"a": {"weight": 3}, "b": {"weight": 1}}) == [2, 1]
    assert hand("multislerp", [0, 0], [1, 0], [0, 3]) == pytest.approx([math.sqrt(2)] * 2)
    assert hand("multislerp", [1, 0], [2, 0], [0, 0]) == [1, 0]  # directions cancel: the average
    assert hand("karcher", [9, 9], [1, 0], [0, 3]) == pytest.approx([math.sqrt(2)] * 2)
    assert hand("karcher", [9, 9], [1, 0], [-1, 0]) == [1, 0]  # opposite: the first stays
    assert hand("karcher", [9, 9], [0, 0], [0, 3]) == [0, 1.5]  # no direction, but a length


def test_karcher_is_where_the_arcs_balance() -> None:
    _, sources = family((6,), 4, spread=3.0)
    mean = run("karcher", make_view(np.zeros(6), sources)).numpy().astype(np.float64)
    mean /= np.linalg.norm(mean)
    pull = np.zeros(6)
    for x in sources.values():
        unit = np.float64(x) / np.linalg.norm(np.float64(x))
        pull += np.arccos(mean @ unit) * (unit - (mean @ unit) * mean) / np.sqrt(1 - (mean @ unit) ** 2)
    assert np.linalg.norm(pull) < 1e-4


def test_directions_that_cancel_are_an_error() -> None:
    third = [[1.0, 0.0], [-0.5, 0.0], [-0.25, 0.0]]
    values = {"a": {"weight": 2.0}, "b": {"weight": 1.0}, "c": {"weight": 1.0}}
    with pytest.raises(MergeError, match=r"^t: multislerp: the weighted mean of the directions is 0"):
        hand("multislerp", [0.0, 0.0], *third, values=values)


def test_model_stock_by_hand() -> None:
    assert hand("model_stock", [1, 1], [2, 1], [1, 2]) == [1, 1]  # deltas at a right angle: the base
    assert hand("model_stock", [1, 1], [3, 1], [2, 1]) == [2.5, 1]  # parallel: the average
    third = hand("model_stock", [0, 0], [1, 0], [0.5, math.sqrt(0.75)])  # cos 1/2: t = 2/3
    assert third == pytest.approx([0.5, math.sqrt(0.75) / 3])
    assert hand("model_stock", [1, 1], [2, 1], [0, 1]) == [1, 1]  # opposite: t has a pole, the base
    assert hand("model_stock", [0, 0], [1e-4, 0], [1e-4, 0], options={"dialect": "mergekit"}) == pytest.approx(
        [1e-4 * 0.02 / 1.01, 0]
    )  # c = 1e-8 ÷ 1e-6


def test_counting_by_hand() -> None:
    assert hand("ram", [1, 1, 1, 1], [3, 1, 3, 1], [1, 1, 5, 1.000001]) == [3, 1, 4, 1]
    plus = hand("ramplus_tl", [0, 0, 0], [1, 0, 2], [0, 0, 4], merge_values={"r": 0.5, "alpha": 2.0})
    assert plus == [1.5, 0, 3]  # a: one shared ÷ one alone; b has none alone
    assert hand("nearswap", [1, 1, 1], [1.5, 1, 3], merge_values={"t": 0.5}) == [1.5, 1, 1.5]
    # energies 16/4 and 2/4; both agree on the first, on the second + wins
    assert hand("sce", [0, 0, 0, 0], [4, 0, 0, 0], [1, 1, 0, 0]) == pytest.approx([33 / 9, 1, 0, 0])
    # two elements vary; half of them is the last; energies 25/3 and 1/3
    half = hand("sce", [0, 0, 0], [1, 2, 5], [1, -1, 1], merge_values={"select_topk": 0.5})
    assert half == pytest.approx([0, 0, 126 / 26])
    assert hand("breadcrumbs", [0] * 5, [1, -5, 3, 2, 4], values={"density": 0.4, "gamma": 0.2}) == [0, 0, 3, 0, 4]
    assert hand("breadcrumbs", [0] * 5, [1, -5, 3, 2, 4], values={"density": 0.4, "gamma": 0.0}) == [0, -5, 0, 0, 4]
    assert hand("breadcrumbs", [0] * 5, [1, -5, 3, 2, 4], values={"density": 0.8, "gamma": 0.9}) == [1, 0, 3, 2, 4]
    assert hand("breadcrumbs", [0] * 2, [1, -5], values={"density": 0.5, "gamma": 0.5}) == [1, 0]
    assert hand("magnitude_linear", [0] * 4, [1, -5, 3, 2], values={"drop": 0.5}) == [0, -5, 3, 0]
    assert hand("magnitude_linear", [0] * 4, [1, -5, 3, 2], values={"drop": 0.5}, options={"rescale": True})[1] == -10


def test_passthrough_keeps_every_bit() -> None:
    odd = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, 1.0])
    view = make_view(torch.ones(6), {"a": odd})
    assert bits(run("passthrough", view)) == bits(odd)


def test_arcee_fusion_takes_what_stands_out() -> None:
    base = torch.zeros(4, 8)
    source = base.clone()
    source[2, 3] = 2.0
    source[0] = 1e-3
    merged = run("arcee_fusion", make_view(base, {"a": source}))
    assert merged[2, 3] == 2.0


# --- identities ------------------------------------------------------------------------------------------------------

WEIGHTED = [
    name
    for name in EXAMPLES
    if any(p.name == "weight" for p in get_method(name).parameters) and name not in ("linear", "dare_weights")
]


@pytest.mark.parametrize("method", sorted({*WEIGHTED} - {"multislerp", "nuslerp"}))
def test_weight_0_gives_the_base(method: str) -> None:
    view = example(method, (4, 8))
    for source in view.sources:
        source.values["weight"] = 0.0  # type: ignore[index]
    assert torch.equal(run(method, view), view.base.view(4, 8))


@pytest.mark.parametrize("method", sorted({*EXAMPLES} - {"dare_weights", "passthrough"}))
def test_sources_that_are_the_base_give_the_base(method: str) -> None:
    count, values, merge, options = EXAMPLES[method]
    base, _ = family((4, 8), 1)
    for unchanged in (base, None):
        merged = run(method, make_view(base, dict.fromkeys("abc"[:count], unchanged), values, merge, options))
        np.testing.assert_allclose(merged.numpy(), base, rtol=2e-7)


AVERAGING: Mapping[str, tuple[int, dict[str, Any]]] = {
    "linear": (3, {}),
    "task_arithmetic": (3, {"normalize": True}),
    "ties": (3, {}),
    "dare_linear": (3, {"normalize": True}),
    "dare_ties": (3, {}),
    "della": (3, {}),
    "della_linear": (3, {"normalize": True}),
    "dare_weights": (3, {}),
    "magnitude_linear": (3, {"normalize": True}),
    "breadcrumbs": (3, {"normalize": True}),
    "breadcrumbs_ties": (3, {}),
    "slerp": (2, {}),
    "nuslerp": (2, {}),
    "multislerp": (3, {}),
    "karcher": (3, {}),
    "model_stock": (3, {}),
    "sce": (3, {}),
    "ram": (3, {}),
    "ramplus_tl": (3, {}),
    "passthrough": (1, {}),
}


@pytest.mark.parametrize("method", AVERAGING)
def test_identical_sources_give_themselves(method: str) -> None:
    count, options = AVERAGING[method]
    base, sources = family((5, 9), 1)
    x = base + np.where(np.abs(sources["a"] - base) < 2e-5, 0, sources["a"] - base)
    merged = run(method, make_view(base, dict.fromkeys("abc"[:count], x), options=options)).numpy()
    assert (np.abs(merged - x) <= 2 * np.spacing(np.maximum(np.abs(x), np.abs(base)).astype(F))).all()


SAME = [
    ("della", {"drop": 0.0}, "ties", {}),
    ("della", {"drop": 0.4, "epsilon": 0.0}, "dare_ties", {"drop": 0.4}),
    ("della_linear", {"drop": 0.0}, "task_arithmetic", {}),
    ("della_linear", {"drop": 0.4, "epsilon": 0.0}, "dare_linear", {"drop": 0.4}),
    ("dare_linear", {"drop": 0.0}, "task_arithmetic", {}),
    ("dare_ties", {"drop": 0.0}, "ties", {}),
    ("dare_weights", {"drop": 0.0}, "linear", {}),
    ("magnitude_linear", {"drop": 0.0}, "task_arithmetic", {}),
    ("magnitude_linear", {"drop": 0.25}, "breadcrumbs", {"density": 0.75, "gamma": 0.0}),
    ("breadcrumbs", {"density": 1.0, "gamma": 0.2}, "task_arithmetic", {}),
    ("breadcrumbs_ties", {"density": 1.0, "gamma": 0.2}, "ties", {}),
    ("breadcrumbs_ties", {"density": 0.5, "gamma": 0.0}, "ties", {"density": 0.5}),
]


@pytest.mark.parametrize(("one", "values", "other", "others"), SAME)
def test_methods_that_meet(one: str, values: dict[str, float], other: str, others: dict[str, float]) -> None:
    base, sources = family((4, 8), 3)
    weights = dict(zip(sources, (0.5, 1.0, -0.25), strict=True))
    first = make_view(base, sources, {name: {"weight": w, **values} for name, w in weights.items()})
    second = make_view(base, sources, {name: {"weight": w, **others} for name, w in weights.items()})
    assert bits(run(one, first)) == bits(run(other, second))


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
def test_density_0_gives_the_base(method: str) -> None:
    base, sources = family((4, 8), 2)
    assert np.array_equal(run(method, make_view(base, sources, {"density": 0.0})).numpy(), base)
    if method == "ties":  # mergekit keeps one of a small density, none of density 0
        small = {"density": 0.001}
        assert (
            run(method, make_view(base, sources, small, options={"dialect": "mergekit"})).numpy() != base
        ).sum() <= 2
        assert np.array_equal(run(method, make_view(base, sources, small)).numpy(), base)


def test_the_ends_of_an_arc_are_exact() -> None:
    base, sources = family((4, 8), 2, spread=3.0)
    a = {"a": sources["a"]}
    assert np.array_equal(run("slerp", make_view(base, a, merge_values={"t": 0.0})).numpy(), base)
    assert np.array_equal(run("slerp", make_view(base, a, merge_values={"t": 1.0})).numpy(), sources["a"])
    assert np.array_equal(run("slerp", make_view(base, sources, merge_values={"t": 0.0})).numpy(), sources["a"])
    assert np.array_equal(run("slerp", make_view(base, sources, merge_values={"t": 1.0})).numpy(), sources["b"])
    assert np.array_equal(run("nearswap", make_view(base, a, merge_values={"t": 0.0})).numpy(), base)


# --- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXAMPLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(method: str, shape: tuple[int, ...]) -> None:
    for seed in range(3):
        try:
            merged = run(method, example(method, shape, seed))
        except MergeError as error:
            assert method == "multislerp" and math.prod(shape) == 1 and "directions" in str(error)
            continue
        assert tuple(merged.shape) == shape and bool(torch.isfinite(merged).all())
        rounded = run(method, example(method, shape, seed), dtype=torch.bfloat16)
        assert bits(rounded) == bits(merged.to(torch.bfloat16))


@pytest.mark.parametrize("method", EXAMPLES)
def test_the_order_in_which_sources_are_given_is_nothing(method: str) -> None:
    count, values, merge, options = EXAMPLES[method]
    base, sources = family((4, 8), count)
    backwards = dict(reversed(sources.items()))
    one = run(method, make_view(base, sources, values, merge, options))
    assert bits(one) == bits(run(method, make_view(base, backwards, values, merge, options)))


@pytest.mark.parametrize("method", sorted({*EXAMPLES} - {"slerp"}))
def test_names_are_nothing_to_two_sources(method: str) -> None:
    """A sum of two is the same either way round; masks hang on the content's digest."""
    _, values, merge, options = EXAMPLES[method]
    if (get_method(method).sources[1] or 2) < 2:
        return
    base, sources = family((4, 8), 2)
    a, b = ({**values, **({"weight": w} if "weight" in values else {})} for w in (0.5, 1.5))
    one = make_view(base, sources, {"a": a, "b": b}, merge, options, digests={"a": "x", "b": "y"})
    other_way = {"a": sources["b"], "b": sources["a"]}
    two = make_view(base, other_way, {"a": b, "b": a}, merge, options, digests={"a": "y", "b": "x"})
    assert bits(run(method, one)) == bits(run(method, two))


@pytest.mark.parametrize("method", EXAMPLES)
def test_a_delta_is_as_good_as_weights(method: str) -> None:
    """An adapter's delta, where θ + δ is exact; and None for a source whose tensor is the base's."""
    count, values, merge, options = EXAMPLES[method]
    rng = np.random.default_rng(5)
    base = (rng.integers(-64, 64, (4, 8)) / 64).astype(F)
    deltas = {name: (rng.integers(-16, 16, (4, 8)) / 64).astype(F) for name in "abc"[:count]}
    if count > 1:
        deltas["b"][:] = 0
    full = {name: base + delta for name, delta in deltas.items()}
    given: dict[str, Any] = {n: Operand(torch.from_numpy(d).reshape(-1), is_delta=True) for n, d in deltas.items()}
    if count > 1:
        given["b"] = None
    one, two = make_view(base, full, values, merge, options), make_view(base, given, values, merge, options)
    got, wanted = run(method, two), run(method, one)
    assert torch.equal(got, wanted)  # a term left out can turn −0 into +0


@pytest.mark.parametrize("method", EXAMPLES)
def test_what_is_measured_is_kept(method: str) -> None:
    view = example(method, (4, 8))
    first = run(method, view)
    measured = dict(view.kept)
    assert bits(run(method, view)) == bits(first)
    assert view.kept.keys() == measured.keys()


@pytest.mark.parametrize(
    "method",
    [name for name in EXAMPLES if not isinstance(get_method(name).plan(complete(name, example(name, (4, 8)))), Plan)],
)
def test_runs_of_any_length_give_the_same(method: str) -> None:
    work = get_method(method).plan(complete(method, example(method, (4, 8))))
    assert not isinstance(work, Plan)
    whole = work(0, 32)
    for length in (1, 5, 31):
        parts = [work(start, min(start + length, 32)) for start in range(0, 32, length)]
        assert bits(torch.cat(parts)) == bits(whole)


def test_what_a_plan_says_for_the_searched_methods() -> None:
    slow = {
        name for name in EXAMPLES if not isinstance(get_method(name).plan(complete(name, example(name, (4, 8)))), Plan)
    }
    assert slow == {"arcee_fusion", "nearswap", "passthrough", "ram", "ramplus_tl", "sce"}


# --- drops, norms, checks --------------------------------------------------------------------------------------------


def test_della_drops_small_elements_more_often_and_stays_unbiased() -> None:
    n = 1 << 14
    delta = np.linspace(0.5, 1.5, n, dtype=F)
    view = make_view(np.zeros(n, F), {"a": delta}, {"drop": 0.5, "epsilon": 0.6})
    merged = run("della_linear", view).numpy().astype(np.float64)
    kept = merged != 0
    quarter = n // 4
    rates = [kept[i : i + quarter].mean() for i in range(0, n, quarter)]
    assert rates == pytest.approx([0.275, 0.425, 0.575, 0.725], abs=0.03)
    assert merged.sum() / delta.sum() == pytest.approx(1.0, abs=0.03)
    more = run("della_linear", make_view(np.zeros(n, F), {"a": delta}, {"drop": 0.6, "epsilon": 0.6})).numpy() != 0
    assert not (more & ~kept).any() and more.sum() < kept.sum()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["dare_linear", "della_linear", "breadcrumbs", "ties"])
def test_mergekits_rescale_keeps_the_norm(method: str, norm: str) -> None:
    base, sources = np.zeros((20, 30), F), family((20, 30), 1)[1]
    own = {"drop": 0.5} if get_method(method).name in ("dare_linear", "della_linear") else {"density": 0.5}
    options: dict[str, Any] = {"rescale": True, "rescale_norm": norm}
    if method != "breadcrumbs":
        options["dialect"] = "mergekit"
    merged = run(method, make_view(base, sources, own, options=options)).numpy().astype(np.float64)
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    assert (merged == 0).sum() > 200
    assert np.linalg.norm(merged.ravel(), order) == pytest.approx(np.linalg.norm(sources["a"].ravel(), order), rel=1e-6)


def values_of(array: np.ndarray) -> Values:
    return Values("weights", torch.from_numpy(array.reshape(-1)))


def test_norms_lines_and_elementary_functions() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=200_000).astype(F)
    values, sizes = values_of(flat), np.abs(np.float64(flat))
    drop = Drop(30_000, MaskStream(0, "s", "t"))
    dropped = drop.stream.dropped(30_000, 0, flat.size).numpy()
    band = Band(0.3, 1.2)
    cases = ((None, sizes > -1), (drop, ~dropped), (band, (np.abs(flat) >= F(0.3)) & (np.abs(flat) <= F(1.2))))
    for mask, kept in cases:
        assert masked_norm(values, mask, "l1") == pytest.approx(sizes[kept].sum())
        assert masked_norm(values, mask, "l2") == pytest.approx(np.linalg.norm(sizes[kept]))
        assert masked_norm(values, mask, "linf") == sizes[kept].max()
    assert smallest_size(values) == sizes.min()
    few = rng.integers(0, 6, size=3000).astype(F) * rng.choice([-1, 1], size=3000).astype(F)  # very many equal ones
    ordered = np.sort(np.abs(np.float64(few)))
    for places in (range(3000), range(1, 2), range(700, 2999), range(2999, 3000), range(1400, 3000)):
        ends = Band(float(ordered[places[0]]), math.inf if places.stop == 3000 else float(ordered[places[-1]]))
        for norm, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
            wanted = np.linalg.norm(ordered[places.start : places.stop], order)
            assert ranked_norm(values_of(few), ends, places, norm) == pytest.approx(wanted)
    assert masked_norm(values_of(flat[:0]), None, "linf") == 0
    with pytest.raises(ConfigError, match="expected a norm of l1, l2, linf, got 'l3'"):
        masked_norm(values, None, "l3")
    for shape in ((3, 70_000), (70_000, 2), (50, 40), (2, 3, 4), (5,), ()):
        a, b = (rng.normal(size=shape).astype(F) for _ in "ab")
        for lines, axis in ((rows(shape), -1), (columns(shape), 0)):
            wanted = (np.float64(a) * b).sum(axis=axis if shape else None).ravel()
            assert lines.dots(values_of(np.array(a)), values_of(np.array(b))) == pytest.approx(
                wanted.tolist(), abs=1e-9
            )
    x = rng.uniform(-60, 0, 10_000)
    np.testing.assert_allclose(elementary.exp(x), np.exp(x), rtol=1e-15)
    assert elementary.exp(np.array([0.0, -9000.0])).tolist() == [1.0, 0.0]
    y = np.concatenate([rng.uniform(1e-8, 3, 10_000), 1 + rng.uniform(-1e-6, 1e-6, 1000)])
    np.testing.assert_allclose(elementary.log(y), np.log(y), rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize(
    ("method", "values", "options", "message"),
    [
        ("linear", {"weight": 0.0}, {}, "the sum of the weights is to be divided by, and is 0"),
        ("dare_weights", {"weight": 0.0}, {}, "the sum of the weights is to be divided by, and is 0"),
        ("multislerp", {"weight": 0.0}, {}, "the sum of the weights is to be divided by, and is 0"),
        ("della", {"drop": 0.1}, {"dialect": "mergekit"}, r"drop ± epsilon of a: expected within \(0, 1\), got -0.05"),
        ("della_linear", {"drop": 0.9}, {"dialect": "mergekit"}, "drop ± epsilon of a"),
        ("dare_ties", {}, {"rescale_norm": "l2"}, "rescale_norm l2: the papers' dialect"),
    ],
)
def test_checks_refuse(method: str, values: dict[str, float], options: dict[str, Any], message: str) -> None:
    found = get_method(method)
    own = {p.name: p.default for p in found.parameters if p.scope == "source"}
    assert found.check is not None
    found.check({"a": own}, {}, found.option_values({}))
    with pytest.raises(MergeError, match=message):
        found.check({"a": {**own, **values}}, {}, found.option_values(options))
