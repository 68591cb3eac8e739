"""The Triton kernel on a GPU gives the CPU reference's bytes."""

import pytest
import torch

from automerge.merge.kernels import cuda
from automerge.merge.kernels.job import Job
from tests.merge.kernel_cases import Case, Source, check, job_of
from tests.merge.kernel_contract import PLAIN, KernelContract

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class TestCuda(KernelContract):
    device = "cuda"

    def kernel(self, jobs: list[Job]) -> list[bool]:
        return cuda.run(jobs, pairs=64)


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16, torch.float16])
def test_many_programs(out: torch.dtype) -> None:
    """Enough elements that programs run at once and meet at the sums, at the size used in earnest."""
    sources = (Source(torch.bfloat16, "drop", 0.6), Source(torch.bfloat16, "drop", 0.4))
    cases = [Case(i, (1 << 22) + i, torch.bfloat16, out, sources, PLAIN) for i in range(3)]
    check(cuda.run, [job_of(case, f"t{i}") for i, case in enumerate(cases)], "cuda")
