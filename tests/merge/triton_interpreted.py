"""The Triton kernel on CPU tensors, by triton's interpreter. test_triton_kernel.py runs this in its own process."""

from automerge.merge.kernels import cuda
from automerge.merge.kernels.job import Job
from tests.merge.kernel_contract import KernelContract


class TestInterpreted(KernelContract):
    device = "cpu"

    def kernel(self, jobs: list[Job]) -> list[bool]:
        return cuda.run(jobs, pairs=64)
