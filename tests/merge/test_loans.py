"""Memory for merged tensors is lent again when, and only when, every tensor in it is gone."""

import torch

from automerge.merge.loans import ALIGNMENT, IDLE, Pool, room

BF16 = torch.bfloat16
SIZE = room(5, BF16) + room(7, torch.float32)


def cut(pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    loan = pool.lend()
    return loan.cut(5, BF16), loan.cut(7, torch.float32)


def test_tensors_are_apart_and_aligned() -> None:
    one, two = cut(Pool(SIZE))
    one.fill_(1)
    two.fill_(2)
    assert one.tolist() == [1] * 5
    assert two.tolist() == [2] * 7
    assert all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in (one, two))
    assert one.untyped_storage().nbytes() == 10


def test_an_empty_tensor_takes_nothing() -> None:
    assert Pool(0).lend().cut(0, BF16).numel() == 0


def test_memory_is_lent_again_when_the_last_tensor_is_gone() -> None:
    pool = Pool(SIZE)
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
    pool = Pool(SIZE)
    kept = []
    for value in range(20):
        one, _ = cut(pool)
        kept.append(one.fill_(value))
    assert [int(tensor[0]) for tensor in kept] == list(range(20))


def test_no_more_is_kept_idle_than_said() -> None:
    pool = Pool(SIZE)
    held = [cut(pool) for _ in range(IDLE + 3)]
    del held
    assert len(pool._idle) == IDLE
    lent = cut(pool)
    pool.close()
    assert not pool._idle
    del lent
    assert not pool._idle
