"""The masks: equal to plain Python, nested, fair, independent, and the same wherever a run begins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automerge.merge.masks import BLOCK, LANES, MaskStream, drop_level, keep_rate
from tests.merge import reference

STREAM = MaskStream(7, "ab" * 32, "model.layers.0.mlp.up_proj.weight")
N = 1 << 18


@given(st.integers(0, 2**63), st.sampled_from(["a", "b"]), st.integers(0, 3 * BLOCK), st.integers(0, 40))
def test_lanes_equal_plain_python(seed: int, source: str, start: int, length: int) -> None:
    lanes = MaskStream(seed, source, "t").lanes(start, length).to(torch.int32) + 32768
    assert lanes.tolist() == [reference.lane(seed, source, "t", i) for i in range(start, start + length)]


@pytest.mark.parametrize("start", [2**32 - 5, BLOCK - 3, BLOCK, 2 * BLOCK - 1])
def test_lanes_around_borders(start: int) -> None:
    lanes = STREAM.lanes(start, 9).to(torch.int32) + 32768
    expected = [reference.lane(STREAM.seed, STREAM.source, STREAM.tensor, i) for i in range(start, start + 9)]
    assert lanes.tolist() == expected


def test_golden() -> None:
    """Frozen: a change here changes every DARE merge ever recorded."""
    lanes = MaskStream(0, "0" * 64, "w").lanes(0, 8).to(torch.int32) + 32768
    assert lanes.tolist() == GOLDEN


GOLDEN = [23373, 13266, 10034, 56012, 29266, 30650, 22776, 15052]


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_run_does_not_depend_on_where_it_begins(start: int, length: int) -> None:
    whole = STREAM.dropped(20_000, 0, 2000)
    assert torch.equal(STREAM.dropped(20_000, start, length), whole[start : start + length])


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_larger_p_drops_a_superset(p: float, q: float) -> None:
    low, high = sorted((drop_level(p), drop_level(q)))
    assert not (STREAM.dropped(low, 0, 999) & ~STREAM.dropped(high, 0, 999)).any()


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_the_rate_is_p(p: float) -> None:
    dropped = STREAM.dropped(drop_level(p), 0, N).double()
    spread = (p * (1 - p) / N) ** 0.5
    assert abs(float(dropped.mean()) - p) < 4 * spread
    # neither half of the words, nor neighbours, lean
    assert abs(float(dropped[::2].mean()) - p) < 6 * spread
    for lag in (1, 2, 3, 64, 4096):
        both = float((dropped[lag:] * dropped[:-lag]).mean())
        assert abs(both - p * p) < 6 * spread


@pytest.mark.parametrize(
    "other",
    [
        MaskStream(8, STREAM.source, STREAM.tensor),
        MaskStream(7, "cd" * 32, STREAM.tensor),
        MaskStream(7, "ab" * 32, "v"),
    ],
)
def test_streams_are_independent(other: MaskStream) -> None:
    one, two = STREAM.dropped(32768, 0, N), other.dropped(32768, 0, N)
    for shift in (0, 1, 2, 1000):
        agree = float((one[shift:] == two[: N - shift]).double().mean())
        assert abs(agree - 0.5) < 6 * 0.5 / N**0.5


def test_every_lane_value_occurs_evenly() -> None:
    counts = torch.bincount((STREAM.lanes(0, 1 << 20).to(torch.int64) + 32768) >> 8, minlength=256).double()
    expected = (1 << 20) / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 150 < chi_square < 370  # 255 degrees of freedom: mean 255, deviation 22.6


def test_levels() -> None:
    assert [drop_level(p) for p in (0.0, 0.5, 0.9, 0.999999999)] == [0, 32768, 58982, LANES - 1]
    assert keep_rate(32768) == 0.5
    assert not STREAM.dropped(0, 0, N).any()
    assert STREAM.dropped(5, 3, 0).shape == (0,)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    STREAM.dropped(1000, 0, 100)
    assert torch.equal(before, torch.random.get_rng_state())
