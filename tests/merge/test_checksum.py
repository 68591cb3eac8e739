"""The checksum: equal to plain Python, additive in any order, blind to nothing that one or two elements do."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automerge.errors import MergeError
from automerge.merge.checksum import ModelSum, TensorSum, tensor_sum
from tests.merge import reference

words = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40)


def as_floats(bits: list[int]) -> torch.Tensor:
    return torch.tensor(bits, dtype=torch.int32).view(torch.float32)


@given(words, st.integers(0, 2**40))
def test_equal_to_plain_python(bits: list[int], offset: int) -> None:
    done = TensorSum("t", torch.float32, (0,))
    done.add(as_floats(bits), offset)
    assert (done.a, done.b) == reference.sums([b & 0xFFFFFFFF for b in bits], offset)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype: torch.dtype) -> None:
    bits = [-32768, -1, 0, 1, 32767, 12345, 77]
    tensor = torch.tensor(bits, dtype=torch.int16).view(dtype)
    done = tensor_sum("t", tensor)
    assert (done.a, done.b) == reference.sums(reference.pairs([b & 0xFFFF for b in bits]))
    assert tensor_sum("t", torch.cat([tensor[:1], tensor])[1:]).hexdigest() == done.hexdigest()  # oddly aligned
    for start, stop in ((1, 4), (2, 5), (0, 1)):
        with pytest.raises(MergeError, match=f"t: elements {start} to {stop} begin or end inside a pair"):
            done.add(tensor[start:stop], start)


@given(words, st.lists(st.integers(0, 40), max_size=5), st.randoms())
def test_pieces_in_any_order_from_anywhere(bits: list[int], cuts: list[int], random: object) -> None:
    tensor = as_floats(bits)
    edges = sorted({0, len(bits), *(cut for cut in cuts if cut < len(bits))})
    pieces = list(itertools.pairwise(edges))
    random.shuffle(pieces)  # type: ignore[attr-defined]
    parts = [TensorSum("t", torch.float32, tuple(tensor.shape)) for _ in range(2)]
    for number, (start, stop) in enumerate(pieces):
        parts[number % 2].add(tensor[start:stop], start)
    parts[0].add_sums(parts[1].a, parts[1].b)
    assert parts[0].hexdigest() == tensor_sum("t", tensor).hexdigest()


@given(words.filter(lambda bits: len(bits) > 1), st.data())
def test_one_and_two_changes_are_seen(bits: list[int], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(bits) - 1))
    j = data.draw(st.integers(0, len(bits) - 1))
    before = tensor_sum("t", as_floats(bits)).hexdigest()
    flipped = list(bits)
    flipped[i] ^= 1
    assert tensor_sum("t", as_floats(flipped)).hexdigest() != before
    swapped = list(bits)
    swapped[i], swapped[j] = bits[j], bits[i]
    assert (tensor_sum("t", as_floats(swapped)).hexdigest() != before) == (bits[i] != bits[j])


def test_name_dtype_and_shape_count() -> None:
    zeros = torch.zeros(4)
    sums = {
        tensor_sum("t", zeros).hexdigest(),
        tensor_sum("u", zeros).hexdigest(),
        tensor_sum("t", zeros.view(2, 2)).hexdigest(),
        tensor_sum("t", zeros.bfloat16()).hexdigest(),
        tensor_sum("t", zeros.half()).hexdigest(),
        tensor_sum("t", -zeros).hexdigest(),  # the sign of zero counts: same bytes means same bytes
    }
    assert len(sums) == 6


def test_golden() -> None:
    """Frozen: a change here makes every recorded checksum void."""
    assert tensor_sum("w", torch.arange(6.0).view(2, 3)).hexdigest() == GOLDEN_TENSOR
    model = ModelSum()
    model.add(tensor_sum("w", torch.arange(6.0).view(2, 3)))
    model.add(tensor_sum("v", torch.ones(3, dtype=torch.bfloat16)))
    assert model.hexdigest() == GOLDEN_MODEL


GOLDEN_TENSOR = "2f86a4513e6c0c5eb4abdf1b15a22656"
GOLDEN_MODEL = "fdfafa24ed086e1561b0189e48f3d91c"


def test_a_model_sum_knows_no_order_and_no_doubles() -> None:
    tensors = [tensor_sum(name, torch.ones(3)) for name in "abc"]
    one, two = ModelSum(), ModelSum()
    for forward, backward in zip(tensors, reversed(tensors), strict=True):
        one.add(forward)
        two.add(backward)
    assert one.hexdigest() == two.hexdigest()
    with pytest.raises(MergeError, match="twice"):
        one.add(tensors[0])


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(MergeError, match="expected one of float32"):
        tensor_sum("t", torch.zeros(3, dtype=torch.int64))
