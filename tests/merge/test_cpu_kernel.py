"""The CPU's numba kernel: the contract at one thread and at two, its fast paths, and the machine code it becomes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automerge.errors import MergeError
from automerge.merge.checksum import tensor_sum
from automerge.merge.kernels import cpu, cpu_sum, cpu_table
from automerge.merge.kernels.cpu_table import CHUNK, Shape, tables
from automerge.merge.kernels.job import Job
from automerge.merge.plan import Plan
from tests.merge.kernel_cases import DTYPES, Case, Source, check, job_of
from tests.merge.kernel_contract import KernelContract

ROOT = Path(__file__).parents[2]
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32

# The fast paths that are compiled for this test; every mask, finish, format and kind of operand occurs.
FAST = [
    (BF16, "drop", False, Plan("delta", ())),
    (BF16, "drop", False, Plan("delta", (), elect=True, divide=True, factor=0.7)),
    (BF16, "band", False, Plan("delta", (), elect=True)),
    (BF16, "none", False, Plan("weights", (), divisor=3.0, base=0.0)),
    (BF16, "none", True, Plan("weights", (), base=0.0)),
    (F16, "drop", True, Plan("delta", (), divisor=0.7, factor=-1.5)),
    (F16, "band", False, Plan("delta", (), elect=True, divide=True)),
]
SIZES = [0, 1, 2, 1023, 1024, 1025, CHUNK - 1, CHUNK + 2, 3 * CHUNK + 1]


class TestOneThread(KernelContract):
    device = "cpu"

    def kernel(self, jobs: list[Job]) -> list[bool]:
        return cpu.run(jobs, threads=1)


class TestTwoThreads(KernelContract):
    """Chunks so small that most jobs have several, each a task of its own."""

    device = "cpu"

    def kernel(self, jobs: list[Job]) -> list[bool]:
        with mock.patch.object(cpu_table, "CHUNK", 64), mock.patch.multiple(cpu, LEAST=1, MOST=1):
            return cpu.run(jobs, threads=2)


@pytest.mark.parametrize("path", range(len(FAST)))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_fast_paths(path: int, data: st.DataObject) -> None:
    dtype, mask, is_delta, plan = FAST[path]
    sources = (
        Source(F32 if is_delta else dtype, mask, 0.5, is_delta),
        Source(F32 if is_delta else dtype, mask, -1 / 3, is_delta),
    )
    cases = [
        Case(
            seed=data.draw(st.integers(0, 2**32)),
            n=data.draw(st.one_of(st.sampled_from(SIZES), st.integers(0, 3000))),
            base=dtype,
            out=dtype,
            sources=sources,
            plan=plan,
            skewed=data.draw(st.booleans()),
            wild=data.draw(st.booleans()),
            cuts=tuple(sorted(data.draw(st.lists(st.integers(0, 3000), max_size=3)))),
            flat=data.draw(st.sampled_from([0, 2**17 - 6, 2**33 - 130])),
        )
        for _ in range(data.draw(st.integers(1, 2)))
    ]
    jobs = [job_of(case, f"t{i}") for i, case in enumerate(cases)]
    threads = data.draw(st.sampled_from([1, 2]))
    check(lambda jobs: cpu.run(jobs, threads=threads), jobs, "cpu")


def test_those_are_fast_paths() -> None:
    shapes = set()
    for dtype, mask, is_delta, plan in FAST:
        source = Source(F32 if is_delta else dtype, mask, 0.5, is_delta)
        _, runs = tables([job_of(Case(0, 100, dtype, dtype, (source, source), plan))])
        shapes |= {shape for shape, _, _ in runs}
    assert None not in shapes and len(shapes) == len(FAST)
    assert {shape.finish for shape in shapes if shape} == set(range(4))
    assert all(Shape.of(shape.number) == shape for shape in shapes if shape)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_mixed_jobs(dtype: torch.dtype, threads: int) -> None:
    """More chunks than a task takes, formats that only the general path knows."""
    plan = Plan("delta", (), elect=True, divide=True, base=0.3)
    sources = (
        Source(BF16, "drop", 0.5),
        Source(F16, "ranked", 0.5),
        Source(F32, "band", 0.5),
        Source(F32, "none", 1.0, True),
    )
    cases = [Case(n, n, BF16, dtype, sources, plan) for n in (40 * CHUNK + 3, 5)]
    check(lambda jobs: cpu.run(jobs, threads=threads), [job_of(case, f"t{case.n}") for case in cases], "cpu")


def test_what_a_thread_raises_is_raised() -> None:
    def fail() -> None:
        raise MergeError("from a thread")

    with pytest.raises(MergeError, match="from a thread"):
        cpu.share_out([fail] * 8, 4)


@given(st.integers(0, 70_000), st.sampled_from(DTYPES), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_checksum_of_a_tensor(n: int, dtype: torch.dtype, seed: int, skewed: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    tensor = torch.randn(n + skewed, generator=random).to(dtype)[int(skewed) :]
    with mock.patch.object(cpu_sum, "CHUNK", 1000):
        assert cpu_sum.tensor_sum("t", tensor).hexdigest() == tensor_sum("t", tensor).hexdigest()
    if n % 6 == 0 and n:
        shaped = tensor.view(2, -1, 3)
        assert cpu_sum.tensor_sum("t", shaped).hexdigest() == tensor_sum("t", shaped).hexdigest()


def test_a_checksum_of_integers_is_refused() -> None:
    with pytest.raises(MergeError, match="expected one of float32"):
        cpu_sum.tensor_sum("t", torch.zeros(3, dtype=torch.int64))


def test_nothing_is_fused(tmp_path: Path) -> None:
    """No product is fused into a sum and no division becomes a reciprocal: in the fast path, the general one, the sums
    and the low-rank product. In a process of its own, with a cache of its own: code out of the cache cannot be looked
    at."""
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.merge.numba_compile", str(tmp_path)],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "cache").rglob("*.fill_rows-*.nbi"))  # kept where code may be kept, not beside the package
    listings = sorted(tmp_path.glob("*.s"))
    assert [path.stem for path in listings] == ["divided", "elected", "general", "low_rank", "sums"]
    for path in listings:
        code = path.read_text()
        assert len(code) > 10_000 and re.search(r"\bv?(mul|fmul)[ps]?[sd]?", code), path.stem
        assert not re.search(
            r"\bv?fn?m(add|sub)[0-9]*[ps][sd]\b|\bv?rcp(14|28)?[ps]s\b|\bfn?m(la|ls|add|sub)\b", code
        ), path.stem
        assert not re.search(
            r"\b(fast|reassoc|contract|arcp|afn|nnan|nsz) (float|double|<\d+ x (float|double)>)",
            path.with_suffix(".ll").read_text(),
        )
