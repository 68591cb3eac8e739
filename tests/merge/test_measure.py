"""What is measured of whole tensors: the CPU's compiled code gives the torch code's numbers, bit for bit."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.kernels import cpu_measure, cpu_order
from automerge.merge.kernels.cpu_measure import BLOCK
from automerge.merge.masks import BLOCK as KEYED
from automerge.merge.masks import MaskStream
from automerge.merge.measure import norms, orders, reductions
from automerge.merge.measure.norms import NORMS, masked_norm
from automerge.merge.measure.orders import kth_largest, row_ranks
from automerge.merge.measure.reductions import dot
from automerge.merge.plan import Band, Drop, Mask, Ranked
from automerge.merge.steps import fp32
from automerge.merge.values import Operand, Values
from tests.merge.kernel_cases import BITS, DTYPES, MASKS

Number = TypeVar("Number", float, Tensor)
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Case:
    """What makes a tensor's Values; everything else follows from `seed`. `step`: magnitudes are multiples of it."""

    seed: int
    n: int
    what: str
    base: torch.dtype
    operand: torch.dtype | None
    is_delta: bool = False
    step: float = 0.0
    wild: bool = False  # any finite bit pattern, subnormal numbers among them


SIZES = st.one_of(st.sampled_from([0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5]), st.integers(0, 300))
CASES = st.builds(
    Case,
    seed=st.integers(0, 2**32),
    n=SIZES,
    what=st.sampled_from(["weights", "delta"]),
    base=st.sampled_from(DTYPES),
    operand=st.sampled_from([*DTYPES, None]),
    is_delta=st.booleans(),
    step=st.sampled_from([0.0, 0.5]),
    wild=st.booleans(),
)
THREADS = st.sampled_from([1, 2])


@EXAMPLES
@given(CASES, THREADS)
def test_dots(case: Case, threads: int) -> None:
    one, other = values_of(case), values_of(case, turn=1)
    for measure in (lambda: dot(one, other), lambda: dot(one, one)):
        assert exact(compiled(measure, threads, one, other)) == exact(by_torch(measure))


@EXAMPLES
@given(CASES, st.sampled_from(MASKS), st.sampled_from(NORMS), THREADS)
@example(Case(0, 3 * BLOCK + 5, "delta", torch.bfloat16, torch.bfloat16), "drop", "l1", 2)
@example(Case(0, 3 * BLOCK + 5, "delta", torch.float16, torch.float16), "drop", "l1", 2)
@example(Case(0, 3 * BLOCK + 5, "delta", torch.float16, torch.float16), "none", "l1", 1)
@example(Case(0, 3 * BLOCK + 5, "delta", torch.float32, torch.float32), "ranked", "l2", 2)
def test_masked_norms(case: Case, kind: str, norm: str, threads: int) -> None:
    values, mask = values_of(case), mask_of(case, kind)
    found = compiled(lambda: masked_norm(values, mask, norm), threads, values)
    assert exact(found) == exact(by_torch(lambda: masked_norm(values, mask, norm)))


@EXAMPLES
@given(CASES, st.data(), THREADS)
def test_the_kth_largest(case: Case, data: st.DataObject, threads: int) -> None:
    values, kept = values_of(case), {}
    for k in data.draw(st.lists(st.integers(-1, case.n + 2), min_size=1, max_size=4)):
        found = compiled(lambda k=k: kth_largest(values, k, kept), threads, values)
        assert exact(found) == exact(by_torch(lambda k=k: kth_largest(values, k, {})))


@pytest.mark.parametrize("near", [0.0, 3e-3, 1.0])  # how far the operand is from the base; 0: as far as may be
def test_every_kth_largest_of_16_bit_weights(near: float) -> None:
    n, random = 2 * BLOCK + 37, torch.Generator().manual_seed(5)
    base = torch.randn(n, generator=random).bfloat16()
    moved = (base + near * torch.randn(n, generator=random) if near else torch.randn(n, generator=random)).bfloat16()
    values, kept = Values("delta", base, Operand(moved), key="t"), {}
    largest = (moved.float() - base.float()).abs().sort(descending=True).values
    for k in (1, 2, n - 1, *range(3, n - 1, 97)):
        assert compiled(lambda k=k: kth_largest(values, k, kept), 2, values) == float(largest[k - 1])


@EXAMPLES
@given(CASES, st.integers(1, 400), st.integers(0, 40), THREADS)
@example(Case(0, 0, "delta", torch.bfloat16, None, step=0.5), 4097, 3, 2)
def test_ranks_in_rows(case: Case, columns: int, rows: int, threads: int) -> None:
    values = values_of(Case(**{**vars(case), "n": rows * columns}))
    found = compiled(lambda: row_ranks(values, columns, {}), threads, values)
    assert found.dtype == torch.uint16
    assert found.tolist() == by_torch(lambda: row_ranks(values, columns, {})).tolist()


def test_the_sums_are_halves_on_halves() -> None:
    """Not only alike, but what the module's docstring says: plain Python, a block of which is not full."""
    values = values_of(Case(3, BLOCK + 70, "delta", torch.bfloat16, torch.bfloat16))
    terms = [float(a) * float(a) for a in values.read(0, values.n)]
    assert dot(values, values) == math.fsum([halved(terms[:BLOCK]), halved(terms[BLOCK:])])


def test_a_histogram_is_made_once_and_small() -> None:
    values, kept = values_of(Case(1, 5000, "delta", torch.bfloat16, torch.bfloat16)), {}
    with mock.patch.object(cpu_order, "histogram", wraps=cpu_order.histogram) as made:
        for k in (10, 20, 10, 4999):
            kth_largest(values, k, kept)
    assert made.call_count == 1
    (histogram,) = (value for value in kept.values() if isinstance(value, cpu_order.Histogram))
    assert len(histogram.bins) < 2000 and int(histogram.reached[-1]) == values.n
    with (
        mock.patch.object(cpu_order, "histogram", side_effect=AssertionError("measured again")),
        mock.patch.object(cpu_order, "select", side_effect=AssertionError("measured again")),
    ):
        assert kth_largest(values, 20, kept) == by_torch(lambda: kth_largest(values, 20, {}))


def test_values_without_a_key_are_measured_each_time() -> None:
    kept: dict[object, object] = {}
    small = values_of(Case(1, 40, "weights", torch.float32, torch.float32))
    large = Values("weights", small.base * 2, Operand(small.operand.values * 2))  # type: ignore[union-attr]
    without = Values("weights", small.base, small.operand)
    assert kth_largest(large, 5, kept) == 2 * kth_largest(without, 5, kept)
    assert not torch.equal(
        row_ranks(large, 8, kept), row_ranks(values_of(Case(2, 40, "weights", torch.float32, None)), 8, kept)
    )


def test_ranks_are_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    small = values_of(Case(1, 40, "weights", torch.float32, torch.float32))
    one, two = (Values("weights", small.base, small.operand, key=(name,)) for name in ("one", "two"))
    monkeypatch.setattr(orders, "MOST_KEPT", row_ranks(one, 8, {}).nbytes)
    kept: dict[object, object] = {}
    first = row_ranks(one, 8, kept)
    assert row_ranks(two, 8, kept).tolist() == first.tolist()
    assert row_ranks(one, 8, kept) is first
    assert [key for key in kept if isinstance(key, tuple)] == [("row_ranks", ("one",))]


def test_rows_that_are_too_long_are_refused() -> None:
    values = Values("weights", torch.zeros(65537))
    with pytest.raises(MergeError, match="at most 65536"):
        row_ranks(values, 65537, {})
    assert row_ranks(Values("weights", torch.zeros(65536)), 65536, {})[-1] == 65535


@pytest.mark.parametrize("make", [lambda x: x[::2], lambda x: x.double()])
def test_what_compiled_code_cannot_read_is_left_to_torch(make: Callable[[Tensor], Tensor]) -> None:
    values = Values("weights", make(torch.arange(10.0)))
    assert not cpu_measure.measurable(values)
    assert masked_norm(values, None, "l1") == float(values.base.sum())
    assert kth_largest(values, 1, {}) == float(values.base.max())


def test_buffers_of_other_lengths_and_masks_elsewhere_are_not_read() -> None:
    assert not cpu_measure.measurable(Values("delta", torch.zeros(4), Operand(torch.zeros(3))))
    stream = MaskStream(0, "s", "t")
    ranks = torch.zeros(4, dtype=torch.uint16)
    assert cpu_measure.readable(Ranked(ranks, torch.zeros(1, dtype=torch.int32), torch.zeros(1), stream), 4)
    assert not cpu_measure.readable(Ranked(ranks, torch.zeros(1, dtype=torch.int32), torch.zeros(1), stream), 5)
    assert not cpu_measure.readable(Ranked(ranks, torch.zeros(1), torch.zeros(1), stream), 4)


def test_masks_have_keys_for_every_block() -> None:
    """The elements of a tensor this long are not made; its table of keys is."""
    stream = MaskStream(0, "s", "t")
    _, _, keys = cpu_measure._mask(Drop(1, stream), KEYED + 1)
    expected = [[k0 ^ (k0 >> 16), k1 ^ (k1 >> 15)] for k0, k1 in (stream.keys(0), stream.keys(1))]
    assert keys.tolist() == expected


def values_of(case: Case, turn: int = 0) -> Values:
    random = torch.Generator().manual_seed(case.seed + turn)
    base = drawn(case, case.base, torch.Generator().manual_seed(case.seed))
    if case.operand is None:
        return Values(case.what, base, key=("t", case.what))  # type: ignore[arg-type]
    dtype = torch.float32 if case.is_delta else case.operand
    operand = Operand(drawn(case, dtype, random), case.is_delta)
    return Values(case.what, base, operand, ("t", case.what))  # type: ignore[arg-type]


def drawn(case: Case, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    values = torch.randn(case.n, generator=random)
    if case.step:
        values = (values / case.step).round() * case.step  # many of the same magnitude, zeros of both signs
    values = values.to(dtype)
    if case.wild:
        bits = torch.randint(-(2**31), 2**31, (case.n,), generator=random).to(torch.int32)
        any_ = (bits if dtype == torch.float32 else bits.to(BITS[dtype])).view(dtype)
        values = torch.where(any_.abs().float() < 1e18, any_, values)  # differences and squares stay finite
    return values


def mask_of(case: Case, kind: str) -> Mask | None:
    stream, random = MaskStream(case.seed, "s", "t"), np.random.default_rng(case.seed)
    if kind == "drop":
        return Drop(int(random.choice([0, 1, 30000, 65535])), stream)
    if kind == "band":
        return Band(fp32(float(random.choice([0.0, 0.5, 1e-30]))), float(random.choice([math.inf, 1.0])))
    if kind == "ranked":
        count = int(random.integers(1, 50))
        ranks = torch.from_numpy(random.integers(0, count, case.n).astype(np.uint16))
        levels = torch.from_numpy(random.integers(0, 65536, count).astype(np.int32))
        return Ranked(ranks, levels, torch.ones(count), stream)
    return None


def compiled(measure: Callable[[], Number], threads: int, *values: Values) -> Number:
    assert cpu_measure.measurable(*values)
    with (
        mock.patch("torch.get_num_threads", lambda: threads),
        mock.patch.object(cpu_measure, "RUN", 1),
        mock.patch.object(cpu_order, "RUN", 1),
        mock.patch.object(cpu_order, "ROWS", 1000),
    ):
        return measure()


def by_torch(measure: Callable[[], Number]) -> Number:
    with (
        mock.patch.object(reductions, "measurable", no),
        mock.patch.object(norms, "measurable", no),
        mock.patch.object(orders, "measurable", no),
    ):
        return measure()


def no(*values: Values) -> bool:
    return False


def exact(number: float) -> bytes:
    return struct.pack("<d", number)


def halved(terms: list[float]) -> float:
    terms = terms + [0.0] * (BLOCK - len(terms))
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [a + b for a, b in zip(terms[:half], terms[half:], strict=True)]
    return terms[0]
