"""The Triton kernel without a GPU: interpreted it equals the reference, compiled it does no forbidden arithmetic.

Both need a process of their own: triton decides at its import whether it interprets or compiles.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automerge.errors import MergeError
from automerge.merge.checksum import TensorSum
from automerge.merge.kernels import cuda
from automerge.merge.kernels.cuda_kind import FULL, NARROW, SEGMENT_COLUMNS, TERM_COLUMNS
from automerge.merge.kernels.cuda_layout import Layouts
from tests.merge.kernel_cases import CASES, Case, Source, job_of
from tests.merge.kernel_contract import PLAIN
from tests.merge.triton_compile import LOW_RANK, specialisations

ROOT = Path(__file__).parents[2]
JOB = job_of(Case(0, 20, torch.bfloat16, torch.bfloat16, (Source(torch.bfloat16, "drop", 0.5),), PLAIN))
QUICK = ["dare-full", "dare-partial", "dare-narrow", "share-bf16-full", "divisor-fp32-partial", "elect-fp16-narrow"]

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton has no build for this platform")


def run(arguments: list[str], **variables: str) -> None:
    settings = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | variables
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
def test_interpreted_it_equals_the_reference(tmp_path: Path) -> None:
    check_interpreted(tmp_path, "not full")


@needs_triton
@pytest.mark.full
def test_interpreted_it_gives_the_same_bytes_with_every_option(tmp_path: Path) -> None:
    check_interpreted(tmp_path, "full")


def check_interpreted(folder: Path, which: str) -> None:
    options = ["-p", "no:cacheprovider", f"--basetemp={folder / 'inner'}", "-m", which]
    run(["-m", "pytest", *options, "tests/merge/triton_interpreted.py"], TRITON_INTERPRET="1")


@needs_triton
def test_compiled_its_arithmetic_is_the_plans(tmp_path: Path) -> None:
    check_compiled(QUICK, tmp_path)


@needs_triton
@pytest.mark.full
def test_compiled_its_arithmetic_is_the_plans_in_every_specialisation(tmp_path: Path) -> None:
    check_compiled(list(specialisations()), tmp_path)


@needs_triton
def test_compiled_a_low_rank_product_fuses_nothing(tmp_path: Path) -> None:
    run(["-m", "tests.merge.triton_compile", str(tmp_path), LOW_RANK], TRITON_CACHE_DIR=str(tmp_path / "cache"))
    ptx = (tmp_path / f"{LOW_RANK}.ptx").read_text()
    assert re.search(r"\bmul\.(rn\.)?f32", ptx) and re.search(r"\badd\.(rn\.)?f32", ptx)
    assert not re.search(r"\bfma\.|\bmad\.[a-z.]*f32|\.ftz|\.approx|\.f64|\btf32|\bmma", ptx)


def check_compiled(names: list[str], folder: Path) -> None:
    run(["-m", "tests.merge.triton_compile", str(folder), *names], TRITON_CACHE_DIR=str(folder / "cache"))
    for name in names:
        ptx = (folder / f"{name}.ptx").read_text()
        divides = name.startswith(("divisor", "share"))
        assert set(re.findall(r"\bdiv\.[a-z0-9.]*f32", ptx)) == ({"div.rn.f32"} if divides else set()), name
        assert not re.search(r"\bfma\.|\bmad\.[a-z.]*f32|\brcp\.|\.ftz|\.approx", ptx), name
        assert not re.search(r"\.f64", ptx), name
        if "fp32" not in name:
            assert re.search(r"cvt\.rn\.(bf16x2|f16x2)\.f32", ptx), name
        if not name.endswith("narrow"):
            assert re.search(r"ld\.global\.v(4\.b32|2\.b64)", ptx), name
            assert re.search(r"st\.global\.v(4\.b32|2\.b64)", ptx), name
        if (folder / f"{name}.sass").exists():
            check_machine_code(name, (folder / f"{name}.sass").read_text(), divides)


def check_machine_code(name: str, sass: str, divides: bool) -> None:
    """What the assembler made of it: no product fused into a sum (a division is made of such), nothing spilled."""
    if not divides:
        assert "FFMA" not in sass and ".FTZ" not in sass, name
    assert not re.search(r"\b(STL|LDL)\b", sass), name


@settings(max_examples=100, deadline=None)
@given(st.lists(CASES, min_size=1, max_size=3))
def test_only_what_is_aligned_is_read_16_bytes_a_thread(cases: list[Case]) -> None:
    """The interpreter does not mind where numbers lie; a GPU does."""
    jobs = [job_of(case, f"t{i}") for i, case in enumerate(cases)]
    elements = 0
    for launch in Layouts().of(jobs, 16, torch.device("cpu")):
        table = launch.segments.view(-1, SEGMENT_COLUMNS + TERM_COLUMNS * len(launch.kind.terms))
        lengths = table[:, 3]
        elements += int(lengths.sum())
        if launch.read != NARROW:
            values = [SEGMENT_COLUMNS + TERM_COLUMNS * term for term in range(len(launch.kind.terms))]
            ranks = [column + 1 for column in values]
            assert not (table[:, [0, 1, *values, *ranks]] % 16).any()
            assert not (table[:, 2] % 2).any()
            assert not (lengths % (2 * launch.pairs if launch.read == FULL else 16)).any()
    assert elements == sum(case.n for case in cases)


def test_tables_of_addresses_are_kept() -> None:
    layouts = Layouts()
    launches = layouts.of([JOB], 16, torch.device("cpu"))
    assert layouts.of([replace(JOB, total=TensorSum("t", torch.bfloat16, (20,)))], 16, torch.device("cpu")) is launches
    elsewhere = replace(JOB, out=torch.empty_like(JOB.out))
    assert layouts.of([elsewhere], 16, torch.device("cpu")) is not launches


def test_without_triton_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "automerge.merge.kernels.cuda_device", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MergeError, match="needs the package triton") as error:
        cuda.run([JOB])
    assert error.value.hint == "Install it: pip install '.[gpu]' in a clone of automerge"


@needs_triton
def test_compiled_it_refuses_tensors_on_the_cpu() -> None:
    with pytest.raises(MergeError, match="expected tensors on one cuda device, got cpu"):
        cuda.run([JOB])
