"""Every method against its numpy twin, bit for bit, on random pieces with zeros, subnormals and unequal signs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automerge.merge import get_method, method_names
from automerge.merge.masks import MaskStream, drop_level
from automerge.merge.piece import Piece, SourcePiece
from tests.merge import reference

F = np.float32
START = 13
ODD = [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 0.1, 3e38]
element = st.one_of(st.sampled_from(ODD), st.floats(-4, 4, width=32))
weight = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5]), st.floats(-2, 2))


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Piece, np.ndarray, list[np.ndarray]]:
    n = draw(st.integers(0, 12))
    count = draw(st.integers(1, 4))
    base = draw(st.lists(element, min_size=n, max_size=n))
    deltas = [np.array(draw(st.lists(st.floats(-4, 4, width=32), min_size=n, max_size=n)), F) for _ in range(count)]
    share = st.one_of(st.just(0.0), st.floats(0, 0.999))
    sources = tuple(
        source(np.array(base, F), delta, str(i), {"weight": draw(weight), "drop": draw(share), "density": draw(share)})
        for i, delta in enumerate(deltas)
    )
    flags = {"normalize": draw(st.booleans()), "rescale": draw(st.booleans())}
    return Piece(torch.tensor(base), sources, {"lambda": draw(weight)}, flags), np.array(base, F), deltas


def source(base: np.ndarray, delta: np.ndarray, name: str, values: dict[str, float]) -> SourcePiece:
    kept = int(values["density"] * delta.size)
    threshold = float(np.sort(np.abs(delta))[delta.size - kept]) if kept else float("inf")
    return SourcePiece(
        values,
        lambda: torch.from_numpy(delta.copy()),
        lambda: torch.from_numpy(base + delta),
        MaskStream(3, name, "t"),
        START,
        delta.size,
        threshold,
    )


def dare(piece: Piece, deltas: list[np.ndarray]) -> list[np.ndarray]:
    out = []
    for i, (source, delta) in enumerate(zip(piece.sources, deltas, strict=True)):
        level = drop_level(source.values["drop"])
        factor = source.values["weight"] / (1 - level / 65536) if piece.options["rescale"] else source.values["weight"]
        kept = [reference.lane(3, str(i), "t", START + j) >= level for j in range(delta.size)]
        out.append(np.where(np.array(kept, bool), F(factor) * delta, F(0)))
    return out


def expected(method: str, piece: Piece, base: np.ndarray, deltas: list[np.ndarray]) -> np.ndarray:
    ws = [source.values["weight"] for source in piece.sources]
    factor, normalize = piece.values["lambda"], piece.options["normalize"]
    if method == "linear":
        return reference.linear([base + d for d in deltas], ws, normalize)
    if method == "task_arithmetic":
        return reference.summed(base, [F(w) * d for w, d in zip(ws, deltas, strict=True)], factor)
    if method == "dare_linear":
        return reference.summed(base, dare(piece, deltas), factor)
    if method == "dare_ties":
        return base + F(factor) * reference.agreed(dare(piece, deltas), ws, normalize)
    trimmed = [reference.trimmed(d, s.values["density"]) for d, s in zip(deltas, piece.sources, strict=True)]
    return base + F(factor) * reference.agreed([F(w) * d for w, d in zip(ws, trimmed, strict=True)], ws, normalize)


@pytest.mark.parametrize("method", method_names())
@given(drawn=pieces())
def test_equal_to_numpy_bit_for_bit(method: str, drawn: tuple[Piece, np.ndarray, list[np.ndarray]]) -> None:
    piece, base, deltas = drawn
    total = sum(source.values["weight"] for source in piece.sources)
    if method == "linear" and piece.options["normalize"] and abs(total) < 1e-8:
        return  # refused before a merge
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = expected(method, piece, base, deltas)
    got = get_method(method).merge(piece).numpy()
    assert got.dtype == F
    np.testing.assert_array_equal(got, wanted)
    finite = np.isfinite(wanted) & (wanted != 0)
    assert np.array_equal(got[finite].view(np.int32), wanted[finite].view(np.int32))


def one(delta: list[float], weights: list[float], method: str, **options: bool) -> list[float]:
    base = np.zeros(1, F)
    values = {"drop": 0.0, "density": 1.0}
    sources = [
        source(base, np.array([d], F), "s", {**values, "weight": w}) for d, w in zip(delta, weights, strict=True)
    ]
    piece = Piece(torch.zeros(1), tuple(sources), {"lambda": 1.0}, {"normalize": True, "rescale": True, **options})
    return get_method(method).merge(piece).tolist()


def test_ties_by_hand() -> None:
    assert one([1.0, -3.0, 4.0], [1.0, 1.0, 1.0], "ties") == [2.5]  # + wins 5 to 3; (1 + 4) / 2
    assert one([1.0, -3.0, 4.0], [1.0, 1.0, 1.0], "ties", normalize=False) == [5.0]
    assert one([1.0, -1.0], [1.0, 1.0], "ties") == [1.0]  # a draw elects +
    assert one([2.0], [-0.5], "ties") == [2.0]  # −1 elected; −1 / −0.5
    assert one([2.0, 4.0], [3.0, 1.0], "dare_ties") == [2.5]
    assert one([2.0, 4.0], [3.0, 1.0], "linear") == [2.5]
