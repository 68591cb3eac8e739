"""DARE on a GPU against the device's own copy: a 7B-shaped base and two resident bf16 sources, a drop rate a layer.

    python benchmarks/merge_gpu.py [--rounds 20] [--layers 32] [--quick] [--json]

Prints a table, writes results/merge_gpu.json, and with --json ends with one line of JSON. The shapes are Mistral-7B's
and the values are random. A merge is everything from the kernel's call to its flags: tables, launches, checksum; the
jobs (plans, in plain Python) are made before the clock starts, and their time has a row of its own. It counts the bytes
of base, sources and result; the copy counts what it reads and writes. Medians of interleaved rounds; the aim is 0.75 of
the copy. `first` is a merge into buffers not seen before, after compilation: its tables of addresses are sent too.
Without CUDA it says so and exits with 1.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from speed.models import MISTRAL_7B
from torch import Tensor

from automerge.merge.checksum import TensorSum
from automerge.merge.kernels import cuda
from automerge.merge.kernels.job import Job, whole
from automerge.merge.masks import MaskStream, drop_level, keep_rate
from automerge.merge.plan import Drop, Plan, Term
from automerge.merge.values import Operand

RESULTS = Path(__file__).parent.parent / "results" / "merge_gpu.json"
SOURCES = ("code", "math")


class Merges:
    """The resident models, and a merge of them with other scalars each time."""

    def __init__(self, layers: int) -> None:
        self.shapes = replace(MISTRAL_7B, layers=layers).shapes()
        self._models = [self._model(seed) for seed in range(1 + len(SOURCES))]
        self._result = self._model(9)
        self._jobs: list[Job] = []
        self._seed = 0

    @property
    def bytes(self) -> int:
        """Of one model."""
        return sum(values.nbytes for values in self._result.values())

    def plan(self) -> None:
        """The jobs of the next merge: other drop rates and masks."""
        self._seed += 1
        self._jobs = [self._job(name) for name in self.shapes]

    def merge(self) -> None:
        """One merge, to its end."""
        if not all(cuda.run(self._jobs)):
            raise SystemExit("the merge is not finite")

    def copy(self) -> None:
        """The base onto the result's place."""
        for name, values in self._models[0].items():
            self._result[name].copy_(values)

    def renew(self) -> None:
        """Another place for the result."""
        self._result = {name: torch.empty_like(values) for name, values in self._result.items()}

    def _model(self, seed: int) -> dict[str, Tensor]:
        random = torch.Generator("cuda").manual_seed(seed)
        options = {"dtype": torch.bfloat16, "device": "cuda"}
        return {
            name: torch.empty(shape, **options).normal_(0.0, 0.02, generator=random).view(-1)
            for name, shape in self.shapes.items()
        }

    def _job(self, name: str) -> Job:
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        level = drop_level(0.3 + layer / 100 + self._seed / 1000)
        factor = 0.5 / keep_rate(level)
        terms = tuple(Term(s, factor, 0.5, Drop(level, MaskStream(self._seed, s, name))) for s in SOURCES)
        base, *sources = (model[name] for model in self._models)
        out = self._result[name]
        total = TensorSum(name, out.dtype, self.shapes[name])
        plan = Plan("delta", terms)
        return Job(name, plan, base, tuple(map(Operand, sources)), out, whole(base.numel()), total)


def seconds(call: Callable[[], None]) -> float:
    """Wall time of one call, device included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(rounds: int, layers: int) -> dict[str, float | str]:
    """Medians over the rounds, the two taking turns: milliseconds, GB/s, and the ratio."""
    merges = Merges(layers)
    for _ in range(3):
        merges.plan()
        merges.merge()
        merges.copy()
    planned, merged, copied, first = [], [], [], []
    for _ in range(rounds):
        planned.append(seconds(merges.plan))
        merged.append(seconds(merges.merge))
        copied.append(seconds(merges.copy))
    for _ in range(3):
        merges.renew()
        merges.plan()
        first.append(seconds(merges.merge))
    merge_rate = (2 + len(SOURCES)) * merges.bytes / statistics.median(merged) / 1e9
    copy_rate = 2 * merges.bytes / statistics.median(copied) / 1e9
    return {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "parameters": merges.bytes // 2,
        "rounds": rounds,
        "jobs_ms": 1e3 * statistics.median(planned),
        "merge_ms": 1e3 * statistics.median(merged),
        "merge_first_ms": 1e3 * statistics.median(first),
        "copy_ms": 1e3 * statistics.median(copied),
        "merge_gb_per_s": merge_rate,
        "copy_gb_per_s": copy_rate,
        "ratio": merge_rate / copy_rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--layers", type=int, default=32, help="fewer where memory is short; a model of 32 takes 14.5 GB"
    )
    parser.add_argument("--quick", action="store_true", help="5 rounds, and nothing is written under results/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA GPU, and torch finds none. On a CPU: benchmarks/merge.py")
    found = measure(5 if arguments.quick else arguments.rounds, arguments.layers)
    title = f"DARE per layer, {float(found['parameters']) / 1e9:.2f} billion parameters, {found['device']}"
    table = Table(title=title, title_justify="left")
    for column in ("what", "ms", "GB/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("merge, checksum included", f"{found['merge_ms']:.1f}", f"{found['merge_gb_per_s']:.0f}")
    table.add_row("merge, first into new buffers", f"{found['merge_first_ms']:.1f}", "")
    table.add_row("making the jobs", f"{found['jobs_ms']:.1f}", "")
    table.add_row("device copy", f"{found['copy_ms']:.1f}", f"{found['copy_gb_per_s']:.0f}")
    Console().print(table)
    Console().print(f"merge ÷ copy: {found['ratio']:.2f} (aim: 0.75)")
    if not arguments.quick:
        command = f"python benchmarks/merge_gpu.py --rounds {arguments.rounds} --layers {arguments.layers}"
        RESULTS.write_text(json.dumps({"command": command, **found}, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
