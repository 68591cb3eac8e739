"""Section `mergekit`: the merge alone, of the same tensors in memory, on one thread each."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from automerge.merge import Merge
from speed.models import Tensors, at_first, at_new_densities, opened, read_models, recipe_of, run
from speed.rounds import Column, Row, Section, interleaved, judge, medians
from tests.peers.peer import peer_python

METHODS = ("dare_linear", "dare_ties", "ties", "linear")
AIMS = {"dare_linear": 80.0, "dare_ties": 80.0, "ties": 40.0, "linear": 12.0}
SAME, OWN = "float32 → bfloat16", "bfloat16"
PAUSED = "after a pause"
PASSES = 9
ABOUT = (
    "Base + 2 full checkpoints, bf16, in memory of each process; one thread each. mergekit's: its Executor running "
    "its plan for all tensors (gather, cast to dtype, method, cast to out_dtype), with loaders that hand out what is "
    "in memory; planning, reading and writing not timed. automerge's: Merge.tensors(), planning and checksum "
    "included. mergekit's `float32 → bfloat16` computes what automerge does; `bfloat16` is what "
    "it does without a dtype, less exact. The ratio, and the aim, is for the former. mergekit takes seconds, in which"
    " memory that is not in use goes cold on a virtual machine: `after a pause` is automerge's first pass then; the "
    "others follow it at once, as the passes of a search do, medians of nine in a row. automerge's methods are the "
    "papers' (drop and density 0.5), as a search uses them; `dialect: mergekit` rescales DARE by measured norms. "
    "`new density`: the sources have been merged before, with other densities; `first`: nothing is known of them."
)
CONFIG = """merge_method: {method}
base_model: {base}
models:
  - model: {one}
    parameters: {{weight: 0.3333{density}}}
  - model: {two}
    parameters: {{weight: 0.6667{density}}}
"""
DTYPES = {SAME: "dtype: float32\nout_dtype: bfloat16\n", OWN: "dtype: bfloat16\n"}


def config(folder: Path, method: str, dtype: str, models: list[Path]) -> Path:
    """Writes a config for a base and two sources. mergekit's linear has no base of its own."""
    names = {"base": models[0], "one": models[1], "two": models[2]}
    text = CONFIG.format(method=method, density="" if method == "linear" else ", density: 0.5", **names)
    if method == "linear":
        text = text.replace(f"base_model: {models[0]}\n", "")
    path = folder / f"{method}-{dtype.split(' ')[0]}.yml"
    path.write_text(text + DTYPES[dtype], encoding="utf-8")
    return path


def measure(models: list[Path], rounds: int, quick: bool) -> Section:
    """Seconds of both, and their ratio."""
    base, *sources = read_models(models)
    methods = ("dare_linear",) if quick else METHODS
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with _peer(models) as ask:
        calls: dict[str, Callable[[], float | None]] = {}
        own: dict[str, Callable[[], float | None]] = {}
        for method in methods:
            for dtype, among in ((SAME, calls), (OWN, own)):
                path = config(models[0].parent, method, dtype, models)
                among[f"{method}/{dtype}"] = lambda path=path: ask(path)  # type: ignore[misc]
            calls |= _ours(base, sources, method)
        found = medians(interleaved(own, min(rounds, 3))) | medians(interleaved(calls, rounds))
    torch.set_num_threads(torch_threads)
    rows = []
    for name, seconds in found.items():
        method, what = name.split("/")
        if what in DTYPES:
            continue
        theirs = found[f"{method}/{SAME}"]
        row: Row = {"method": method, "what": what, "ours": seconds, "theirs": theirs}
        row |= {"theirs_own": found[f"{method}/{OWN}"], "ratio": theirs / seconds}
        rows.append(judge(row, "ratio", AIMS[method] if not what else None))
    columns = (
        Column("method", "method"),
        Column("what", ""),
        Column("ours", "automerge, s", ".3f"),
        Column("theirs", f"mergekit, {SAME}, s", ".2f"),
        Column("theirs_own", f"mergekit, {OWN}, s", ".2f"),
        Column("ratio", "ratio", ".0f"),
        Column("aim", "aim", ".0f"),
        Column("met", "met"),
    )
    extra = {"rounds": rounds, "elements": sum(values.numel() for values in base.values())}
    return Section("Against mergekit, the merge alone, one thread", ABOUT, columns, rows, extra)


def _ours(base: Tensors, sources: list[Tensors], method: str) -> dict[str, Callable[[], float | None]]:
    models = opened(base, sources)
    merge = Merge(recipe_of(models, method), models)
    calls: dict[str, Callable[[], float | None]] = {
        f"{method}/{PAUSED}": lambda: run(merge),
        f"{method}/": lambda: _median(lambda: run(merge)),
    }
    if method == "ties":
        renew = at_new_densities(models, method)
        calls |= {f"{method}/new density": lambda: _median(renew), f"{method}/first": at_first(base, sources, method)}
    if method.startswith("dare"):
        seed = 0

        def reseed() -> None:
            nonlocal seed
            seed += 1
            run(Merge(recipe_of(models, method, dialect="mergekit", seed=seed), models))

        calls[f"{method}/dialect: mergekit"] = reseed
    return calls


def _median(call: Callable[[], None]) -> float:
    """Seconds of one of PASSES in a row."""
    return medians(interleaved({"": call}, PASSES))[""]


@contextmanager
def _peer(models: list[Path]) -> Iterator[Callable[[Path], float]]:
    """A process that takes configs, and gives seconds."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}
    script = Path(__file__).with_name("peer_process.py")
    command = [str(peer_python()), str(script), *map(str, models)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]

        def ask(path: Path) -> float:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        if process.stdout.readline().strip() != "ready":
            raise SystemExit("mergekit's process did not start")
        yield ask
        process.stdin.close()
