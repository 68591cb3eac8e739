"""The Triton kernel on CPU tensors, by triton's interpreter. test_triton_kernel.py runs this in its own process."""

import pytest

from automerge.merge import Models
from automerge.merge.kernels import cuda
from automerge.merge.kernels.job import Job
from tests.merge.kernel_contract import KernelContract
from tests.merge.low_rank_cases import check_low_rank
from tests.merge.test_same_bytes import check_kernel, each_method, small

__all__ = ["small"]  # the fixture


class TestInterpreted(KernelContract):
    device = "cpu"

    def kernel(self, jobs: list[Job]) -> list[bool]:
        return cuda.run(jobs, pairs=64)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@each_method
def test_same_bytes(small: Models, method: str) -> None:
    """One option a method, as the interpreter is slow; every method and option compiled: tests/gpu."""
    check_kernel(small, method, cuda.run, ("bfloat16",), slice(-1, None))


@pytest.mark.parametrize(("rank", "n", "m"), [(1, 1, 1), (3, 17, 300), (8, 40, 256), (5, 16, 7)])
def test_a_low_rank_product(rank: int, n: int, m: int) -> None:
    check_low_rank(rank, n, m, "cpu")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@each_method
def test_same_bytes_with_every_option(small: Models, method: str) -> None:
    check_kernel(small, method, cuda.run)
