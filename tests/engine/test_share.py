"""The driver beside engines that have the cores: one thread, for as long as they are there."""

import pytest
import torch

from automerge.engine.share import beside


@pytest.mark.parametrize(("workers", "cuda", "kept"), [(1, False, True), (2, False, False), (2, True, True)])
def test_the_driver_leaves_the_cores_to_its_engines(
    workers: int, cuda: bool, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), beside(workers):
            assert torch.get_num_threads() == (2 if kept else 1)
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
