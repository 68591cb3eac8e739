"""Section `bandwidth`: the CPU's kernel, and the whole pass, against torch's copy_ of as many bytes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from automerge.merge import Merge
from automerge.merge.kernels import cpu
from automerge.merge.kernels.job import Job
from speed.models import SMALL, SMOLLM2, Tensors, at_first, at_new_densities, opened, random_models, recipe_of, run
from speed.rounds import Column, Row, Section, interleaved, judge, medians, on_threads

METHODS = ("dare_linear", "dare_ties", "ties", "task_arithmetic", "linear")
AIMS = {("dare_linear", 1): 0.7, ("dare_linear", 2): 0.9, ("dare_ties", 2): 0.7, ("ties", 2): 0.7}
SOURCES = 2
KERNEL, WHOLE = "kernel", "whole pass"
ABOUT = (
    "Base + 2 sources of SmolLM2's shapes, bf16, random, every element changed, in memory. Bytes: base, sources and "
    "result, each once; copy_ copies as many in all, on the same threads, out of one flat tensor into another, its "
    "memory touched before. "
    "`kernel`: kernels.cpu.run on the jobs that Merge makes, in its batches, checksum included, into memory touched "
    "before. `whole pass`: Merge.tensors(), which plans too; what it gives lies in the pass before's memory. `ties`: "
    "thresholds known; `new density`: the models were merged before, with other densities; `first`: never merged. "
    "Medians; beside their ratio that of the fastest rounds, which other programs disturb less."
)


def measure(rounds: int, quick: bool) -> Section:
    """Rates in GB/s, and as shares of copy_'s."""
    base, *sources = random_models(SMALL if quick else SMOLLM2, SOURCES)
    elements = sum(values.numel() for values in base.values())
    moved = 2 * elements * (1 + SOURCES + 1)
    calls: dict[str, Callable[[], None]] = {}
    for threads in (1, 2):
        calls |= _calls(base, sources, threads, moved)
    torch_threads = torch.get_num_threads()
    taken = interleaved(calls, rounds, mixed=True)
    found, best = medians(taken), {name: min(seconds) for name, seconds in taken.items()}
    torch.set_num_threads(torch_threads)
    rows = []
    for name, seconds in found.items():
        what, how, threads = name.split("/")
        copied = found[f"copy_/flat/{threads}"]
        row: Row = {
            "what": what,
            "how": how,
            "threads": int(threads),
            "ms": 1e3 * seconds,
            "gb_s": moved / seconds / 1e9,
        }
        row["of_copy"] = copied / seconds
        row["best"] = best[f"copy_/flat/{threads}"] / best[name]
        rows.append(judge(row, "of_copy", AIMS.get((what, int(threads))) if how == KERNEL else None))
    columns = (
        Column("what", "what"),
        Column("how", "how"),
        Column("threads", "threads"),
        Column("ms", "ms", ".1f"),
        Column("gb_s", "GB/s", ".1f"),
        Column("of_copy", "× copy_", ".2f"),
        Column("best", "× copy_, best rounds", ".2f"),
        Column("aim", "aim", ".2f"),
        Column("met", "met"),
    )
    return Section(
        "CPU, against the bandwidth of torch's copy_", ABOUT, columns, rows, {"rounds": rounds, "elements": elements}
    )


def _calls(base: Tensors, sources: list[dict[str, Tensor]], threads: int, moved: int) -> dict[str, Callable[[], None]]:
    calls: dict[str, Callable[[], None]] = {}
    origin, target = torch.ones(moved // 4, dtype=torch.bfloat16), torch.ones(moved // 4, dtype=torch.bfloat16)
    calls[f"copy_/flat/{threads}"] = on_threads(threads, lambda: _discard(target.copy_(origin)))
    outs = {name: torch.ones_like(values).view(-1) for name, values in base.items()}
    models = opened(base, sources)
    for method in METHODS:
        merge = Merge(recipe_of(models, method), models)
        calls[f"{method}/{KERNEL}/{threads}"] = _kernel(_batches(merge, outs), threads)
        calls[f"{method}/{WHOLE}/{threads}"] = on_threads(threads, lambda merge=merge: run(merge))  # type: ignore[misc]
    calls[f"ties, new density/{WHOLE}/{threads}"] = on_threads(threads, at_new_densities(models, "ties"))
    calls[f"ties, first/{WHOLE}/{threads}"] = on_threads(threads, at_first(base, sources, "ties"))
    return calls


def _batches(merge: Merge, outs: Tensors) -> list[list[Job]]:
    """The jobs that the merge would run, in its batches, writing to `outs`."""
    batches = []
    for names in merge._batches():
        jobs = [merge.job(name) for name in names]
        batches.append([replace(job, out=outs[job.name]) for job in jobs if job is not None])
    assert sum(map(len, batches)) == len(merge.names)
    return batches


def _kernel(batches: list[list[Job]], threads: int) -> Callable[[], None]:
    def call() -> None:
        for jobs in batches:
            if not all(cpu.run(jobs, threads=threads)):
                raise SystemExit("the merge is not finite")

    return call


def _discard(_: Tensor) -> None:
    pass
