"""Writes what numba makes of the CPU's kernels, as LLVM's text (*.ll) and machine code (*.s), into a folder.

python -m tests.merge.numba_compile FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import torch

from automerge.merge.kernels import cpu, cpu_measure
from automerge.merge.kernels.cpu_fused import fused
from automerge.merge.kernels.cpu_lowrank_loop import fill_rows
from automerge.merge.kernels.cpu_measure_loop import measure_blocks
from automerge.merge.kernels.cpu_steps import run_chunks
from automerge.merge.kernels.cpu_table import tables
from automerge.merge.plan import Plan
from automerge.merge.sources.lowrank import LowRank
from automerge.merge.values import Values
from tests.merge.kernel_cases import Case, Source, job_of

BF16 = torch.bfloat16
PLANS = {
    "divided": Plan("delta", (), divisor=3.0, factor=0.7),
    "elected": Plan("delta", (), elect=True, divide=True, factor=0.7),
}


def main(folder: Path) -> None:
    for name, plan in PLANS.items():
        job = job_of(Case(0, 100, BF16, BF16, (Source(BF16, "drop", 0.5), Source(BF16, "drop", 0.5)), plan))
        cpu.run([job])
        _, [(shape, _, _)] = tables([job])
        assert shape is not None
        write(folder / name, fused(shape))
    cpu.run([job_of(Case(0, 100, BF16, torch.float32, (Source(BF16, "ranked", 0.5),), PLANS["elected"]))])
    write(folder / "general", run_chunks)
    cpu_measure.sums_of_blocks(cpu_measure.DOT, Values("weights", torch.ones(10)))
    write(folder / "sums", measure_blocks)
    LowRank(lambda: (torch.ones(5, 70), torch.ones(5, 30)), 0.5, (70, 30)).whole()
    write(folder / "low_rank", fill_rows)


def write(path: Path, compiled: Any) -> None:
    path.with_suffix(".ll").write_text("\n".join(compiled.inspect_llvm().values()))
    path.with_suffix(".s").write_text("\n".join(compiled.inspect_asm().values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
