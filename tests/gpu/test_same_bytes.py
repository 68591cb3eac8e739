"""Every method on a GPU gives the CPU reference's bytes and checksums."""

import pytest
import torch

from automerge.merge import Models
from automerge.merge.kernels import cuda
from automerge.merge.kernels.job import Job
from tests.merge.kernel_cases import on
from tests.merge.test_same_bytes import check_kernel, each_method, small

__all__ = ["small"]  # the fixture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def there(jobs: list[Job]) -> list[bool]:
    """The jobs on the GPU, their results brought back."""
    moved = [on(job, "cuda") for job in jobs]
    finite = cuda.run(moved)
    for job, other in zip(jobs, moved, strict=True):
        job.out.copy_(other.out)
        job.total.add_sums(other.total.a, other.total.b)
    return finite


@each_method
def test_every_method(small: Models, method: str) -> None:
    check_kernel(small, method, there)
