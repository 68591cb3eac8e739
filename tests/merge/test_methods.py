"""Five methods against their numpy twin, bit for bit, on random tensors with zeros, subnormals and unequal signs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automerge.merge import get_method, method_names
from automerge.merge.masks import drop_level
from automerge.merge.stack import reads_base
from automerge.merge.values import Operand
from automerge.merge.view import View
from tests.merge import reference
from tests.merge.views import make_view, run

F = np.float32
METHODS = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties")
SEED = 3
ODD = [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 0.1, 3e38]
element = st.one_of(st.sampled_from(ODD), st.floats(-4, 4, width=32))
weight = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5]), st.floats(-2, 2))

Drawn = tuple[np.ndarray, list[np.ndarray], list[dict[str, float]], float, dict[str, bool]]


@st.composite
def pieces(draw: st.DrawFn) -> Drawn:
    n = draw(st.integers(0, 12))
    count = draw(st.integers(1, 4))
    base = draw(st.lists(element, min_size=n, max_size=n))
    deltas = [np.array(draw(st.lists(st.floats(-4, 4, width=32), min_size=n, max_size=n)), F) for _ in range(count)]
    share = st.one_of(st.just(0.0), st.floats(0, 0.999))
    values = [{"weight": draw(weight), "drop": draw(share), "density": draw(share)} for _ in range(count)]
    flags = {"normalize": draw(st.booleans()), "rescale": draw(st.booleans())}
    return np.array(base, F), deltas, values, draw(weight), flags


def view_of(method: str, drawn: Drawn) -> View:
    base, deltas, values, factor, flags = drawn
    options = flags if method.startswith("dare") else {"normalize": flags["normalize"]}
    sources = {str(i): Operand(torch.from_numpy(delta.copy()), is_delta=True) for i, delta in enumerate(deltas)}
    by_name = {str(i): own for i, own in enumerate(values)}
    return make_view(base, sources, by_name, {"lambda": factor}, options, seed=SEED)


def dare(drawn: Drawn) -> list[np.ndarray]:
    out = []
    for i, (values, delta) in enumerate(zip(drawn[2], drawn[1], strict=True)):
        level = drop_level(values["drop"])
        factor = values["weight"] / (1 - level / 65536) if drawn[4]["rescale"] else values["weight"]
        kept = [reference.lane(SEED, str(i), "t", j) >= level for j in range(delta.size)]
        out.append(np.where(np.array(kept, bool), F(factor) * delta, F(0)))
    return out


def expected(method: str, drawn: Drawn) -> np.ndarray:
    base, deltas, values, factor, flags = drawn
    ws = [own["weight"] for own in values]
    normalize = flags["normalize"]
    if method == "linear":
        return reference.linear([base + d for d in deltas], ws, normalize)
    if method in ("task_arithmetic", "dare_linear"):
        parts = dare(drawn) if method == "dare_linear" else [F(w) * d for w, d in zip(ws, deltas, strict=True)]
        if not normalize or abs(reference.added(ws)) < 1e-8:
            return reference.summed(base, parts, factor)
        return base + F(factor) * (reference.summed(np.zeros_like(base), parts, 1.0) / reference.added(ws))
    if method == "dare_ties":
        return base + F(factor) * reference.agreed(dare(drawn), ws, normalize)
    trimmed = [reference.trimmed(d, own["density"]) for d, own in zip(deltas, values, strict=True)]
    return base + F(factor) * reference.agreed([F(w) * d for w, d in zip(ws, trimmed, strict=True)], ws, normalize)


@pytest.mark.parametrize("method", METHODS)
@given(drawn=pieces())
def test_equal_to_numpy_bit_for_bit(method: str, drawn: Drawn) -> None:
    ws = [own["weight"] for own in drawn[2]]
    if method == "linear" and drawn[4]["normalize"] and min(abs(sum(ws)), abs(reference.added(ws))) < 1e-8:
        return  # refused before a merge
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = expected(method, drawn)
    got = run(method, view_of(method, drawn)).numpy()
    assert got.dtype == F
    np.testing.assert_array_equal(got, wanted)
    finite = np.isfinite(wanted) & (wanted != 0)
    assert np.array_equal(got[finite].view(np.int32), wanted[finite].view(np.int32))


def one(delta: list[float], weights: list[float], method: str, **options: bool) -> list[float]:
    sources = {str(i): [value] for i, value in enumerate(delta)}
    by_name = {str(i): {"weight": value} for i, value in enumerate(weights)}
    merged: list[float] = run(
        method, make_view([0.0], sources, by_name, options={"normalize": True, **options})
    ).tolist()
    return merged


def test_ties_by_hand() -> None:
    assert one([1.0, -3.0, 4.0], [1.0, 1.0, 1.0], "ties") == [2.5]  # + wins 5 to 3; (1 + 4) / 2
    assert one([1.0, -3.0, 4.0], [1.0, 1.0, 1.0], "ties", normalize=False) == [5.0]
    assert one([1.0, -1.0], [1.0, 1.0], "ties") == [1.0]  # a draw elects +
    assert one([2.0], [-0.5], "ties") == [2.0]  # −1 elected; −1 / −0.5
    assert one([2.0, 4.0], [3.0, 1.0], "dare_ties") == [2.5]
    assert one([2.0, 4.0], [3.0, 1.0], "linear") == [2.5]


@pytest.mark.parametrize("method", method_names())
def test_what_a_method_declares_of_base_and_chance(method: str) -> None:
    declared = get_method(method)
    random = torch.Generator().manual_seed(1)
    base, other, *rest = (torch.randn(8, 16, generator=random) for _ in range(4))
    sources = dict(zip("ab", rest[: declared.sources[1] or 2], strict=False))
    values = {"drop": 0.5} if any(parameter.name == "drop" for parameter in declared.parameters) else {}

    def merged(theta: torch.Tensor, seed: int) -> torch.Tensor:
        return run(method, make_view(theta, sources, values, seed=seed))

    assert torch.equal(merged(base, 0), merged(base, 1)) is not declared.random
    if method != "slerp":  # of two sources, as here, it takes no base
        assert torch.equal(merged(base, 0), merged(other, 0)) is not reads_base(declared, {})
