"""The masks: equal to plain Python, nested, fair, independent, and the same wherever a run begins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automerge.merge.hash32 import counter, mix_, signed
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


def test_a_source_and_a_tensor_more_change_nothing_of_the_others() -> None:
    """Twenty streams (sources × tensors), pairwise: the share of elements dropped in both is p²."""
    streams = [MaskStream(3, f"{source:064x}", f"t{tensor}") for source in range(4) for tensor in range(5)]
    dropped = torch.stack([stream.dropped(drop_level(0.3), 0, N) for stream in streams]).double()
    both = dropped @ dropped.T / N
    p = float(drop_level(0.3)) / LANES
    spread = (p * p * (1 - p * p) / N) ** 0.5
    off = both[~torch.eye(len(streams), dtype=torch.bool)]
    assert float((off - p * p).abs().max()) < 5 * spread


def test_the_two_lanes_of_a_word_are_independent() -> None:
    lanes = (STREAM.lanes(0, 1 << 21).to(torch.int64) + 32768) >> 12
    table = torch.bincount(lanes[::2] * 16 + lanes[1::2], minlength=256).double()
    expected = (1 << 20) / 256
    assert 150 < float(((table - expected) ** 2 / expected).sum()) < 370  # chi-square, 255 degrees of freedom


@pytest.mark.parametrize("bit", [0, 1, 7, 16, 31])
def test_one_bit_of_the_first_key_changes_half_of_the_bits(bit: int) -> None:
    """Avalanche. The second key enters in mid-hash and has less of it: 64 bits of sha256 never lie close by chance."""
    one, other = (mix_(counter(0, 1 << 14).bitwise_xor_(signed(0x1234567 ^ flip)), 77) for flip in (0, 1 << bit))
    changed = (one ^ other).to(torch.int64) & 0xFFFFFFFF
    shares = torch.stack([(changed >> k & 1).double().mean() for k in range(32)])
    assert float((shares - 0.5).abs().max()) < 0.05


@pytest.mark.full
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_and_the_lags_at_length(p: float) -> None:
    n = 1 << 26
    dropped = STREAM.dropped(drop_level(p), 0, n)
    rate = drop_level(p) / LANES
    assert abs(float(dropped.sum()) / n - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    for lag in (1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 63, 64, 127, 576, 1536, 4096, 65536, 1 << 20):
        both = float((dropped[lag:] & dropped[:-lag]).sum()) / (n - lag)
        assert abs(both - rate * rate) < 5 * (rate * rate * (1 - rate * rate) / n) ** 0.5, lag


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
