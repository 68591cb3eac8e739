"""Memory for merged tensors is lent again when, and only when, every tensor in it is gone."""

import pytest
import torch

from automerge.merge import Models, stream
from automerge.merge.loans import ALIGNMENT, IDLE, Pool, room
from tests.merge.helpers import merged, recipe_of

BF16 = torch.bfloat16
SIZE = room(5, BF16) + room(7, torch.float32)


def cut(pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    loan = pool.lend(SIZE)
    return loan.cut(5, BF16), loan.cut(7, torch.float32)


def test_tensors_are_apart_and_aligned() -> None:
    one, two = cut(Pool())
    one.fill_(1)
    two.fill_(2)
    assert one.tolist() == [1] * 5
    assert two.tolist() == [2] * 7
    assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in (one, two))
    assert one.untyped_storage().nbytes() == 10


def test_an_empty_tensor_takes_nothing() -> None:
    assert Pool().lend(0).cut(0, BF16).numel() == 0


def test_memory_is_lent_again_when_the_last_tensor_is_gone() -> None:
    pool = Pool()
    one, two = cut(pool)
    place = one.data_ptr()
    view = one.view(5, 1)[2:]
    del one, two
    other, more = cut(pool)
    assert other.data_ptr() != place  # a view still holds the first block
    del view, other, more
    first, second = cut(pool), cut(pool)
    assert place in {first[0].data_ptr(), second[0].data_ptr()}


def test_a_tensor_that_is_kept_keeps_its_values() -> None:
    pool = Pool()
    kept = []
    for value in range(20):
        one, _ = cut(pool)
        kept.append(one.fill_(value))
    assert [int(tensor[0]) for tensor in kept] == list(range(20))


def test_no_more_is_kept_idle_than_said() -> None:
    pool = Pool()
    held = [cut(pool) for _ in range(IDLE + 3)]
    assert pool.idle == 0
    del held
    assert pool.idle == IDLE * (SIZE + ALIGNMENT)


def test_the_smallest_that_is_large_enough_is_lent() -> None:
    pool = Pool()
    blocks = [pool.lend(size * SIZE).cut(size * SIZE, torch.uint8) for size in (3, 2)]
    places = [block.data_ptr() for block in blocks]
    del blocks
    small = pool.lend(SIZE).cut(SIZE, torch.uint8)
    large = pool.lend(3 * SIZE).cut(3 * SIZE, torch.uint8)
    assert [large.data_ptr(), small.data_ptr()] == places


def test_what_is_idle_is_lent_where_it_is_large_enough_and_let_go_where_not() -> None:
    pool = Pool()
    large = pool.lend(3 * SIZE).cut(3 * SIZE, torch.uint8)
    place = large.data_ptr()
    del large
    small = pool.lend(SIZE).cut(SIZE, torch.uint8)
    assert small.data_ptr() == place
    del small
    larger = pool.lend(4 * SIZE).cut(4 * SIZE, torch.uint8)
    assert pool.idle == 0
    larger.fill_(1)


def test_the_next_merge_takes_the_memory_of_the_last(family: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    monkeypatch.setattr(stream, "POOL", pool)
    merged(recipe_of(family, "linear"), family)
    first = dict(pool._idle)
    assert first
    merged(recipe_of(family, "dare_linear"), family)
    assert pool._idle.keys() == first.keys()
