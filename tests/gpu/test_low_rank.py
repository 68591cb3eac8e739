"""An adapter's delta formed on a GPU has the CPU's bytes."""

import pytest
import torch

from tests.merge.low_rank_cases import check_low_rank

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.parametrize(("rank", "n", "m"), [(1, 1, 1), (3, 17, 300), (16, 576, 1536), (64, 1000, 999)])
def test_a_low_rank_product(rank: int, n: int, m: int) -> None:
    check_low_rank(rank, n, m, "cuda")
