"""Section `commands`: `automerge merge` and `mergekit-yaml` from start to end, seconds and peak memory."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from speed.peer import SAME, config
from speed.rounds import Column, Row, Section, judge
from tests.peers.peer import peer_python

METHODS = ("dare_linear", "ties", "linear", "dare_ties")
FASTER, SMALLER = 3.0, 0.5
WARM, COLD = "digests known", "models new"
ROUNDS = 5  # at most: a round is a minute
ABOUT = (
    "Whole processes with the same config (dtype float32, out_dtype bfloat16; dialect mergekit), base + 2 full "
    "checkpoints read from files in the page cache and the result written, on the threads each takes by itself. "
    "automerge also digests its sources the first time it sees them (`models new`; later `digests known`), reads its "
    "result back to verify it, and flushes it to the disk. Its compiled code is cached; `ever first` is the first "
    "merge on a machine, which compiles it. Peak is the largest resident set, mapped files included."
)
# A small process starts and measures the command: what a large parent holds would count as the child's peak.
LAUNCHER = """
import json, os, sys, time
command, log = json.loads(sys.argv[1]), sys.argv[2]
begun = time.perf_counter()
where = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
to = [(os.POSIX_SPAWN_DUP2, where, 1), (os.POSIX_SPAWN_DUP2, where, 2)]
_, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ, file_actions=to), 0)
print(json.dumps({"seconds": time.perf_counter() - begun, "peak": usage.ru_maxrss * 1024, "status": status,
    "cpu": usage.ru_utime + usage.ru_stime}))
"""


def measure(models: list[Path], rounds: int, quick: bool) -> Section:
    """Medians over the rounds."""
    rounds = min(rounds, ROUNDS)
    folder = models[0].parent
    environment = _environment(folder)
    methods = METHODS[:1] if quick else METHODS
    paths = {method: config(folder, method, SAME, models) for method in methods}
    ever = _automerge(paths[methods[0]], folder, environment, new=True)
    for method in methods:  # compiles what it runs; what is read is in the page cache from here on
        _automerge(paths[method], folder, environment, new=False)
    found: dict[str, list[Row]] = {}
    for _ in range(rounds):
        for method, path in paths.items():
            found.setdefault(f"{method}/mergekit", []).append(_mergekit(path, folder, environment))
            for how in (COLD, WARM):
                row = _automerge(path, folder, environment, new=how == COLD)
                found.setdefault(f"{method}/{how}", []).append(row)
    taken = {
        name: {key: statistics.median(row[key] for row in rows) for key in ("seconds", "cpu", "peak")}
        for name, rows in found.items()
    }
    rows = []
    for method in methods:
        theirs = taken[f"{method}/mergekit"]
        rows.append({"method": method, "what": "mergekit-yaml", **theirs, "peak_mb": theirs["peak"] / 1e6})
        for how in (COLD, WARM):
            rows.append(_row(method, how, taken[f"{method}/{how}"], theirs))
    rows.append(_row(methods[0], "ever first", ever, taken[f"{methods[0]}/mergekit"]))
    columns = (
        Column("method", "method"),
        Column("what", "command"),
        Column("seconds", "s", ".2f"),
        Column("cpu", "CPU, s", ".2f"),
        Column("peak_mb", "peak, MB", ".0f"),
        Column("faster", "times faster", ".1f"),
        Column("less_cpu", "times less CPU", ".1f"),
        Column("share", "of its peak", ".2f"),
        Column("met", f"≥ {FASTER:g}×"),
        Column("met_peak", f"≤ {SMALLER:g}"),
    )
    return Section("Whole commands, reading and writing included", ABOUT, columns, rows, {"rounds": rounds})


def _row(method: str, how: str, ours: Row, theirs: Row) -> Row:
    row = {"method": method, "what": f"automerge merge, {how}", **ours, "peak_mb": ours["peak"] / 1e6}
    row |= {"faster": theirs["seconds"] / ours["seconds"], "share": ours["peak"] / theirs["peak"]}
    row["less_cpu"] = theirs["cpu"] / ours["cpu"]
    row.pop("status", None)
    if how not in (WARM, COLD):
        return row
    row["met_peak"] = judge(dict(row), "share", SMALLER, most=True)["met"]
    return judge(row, "faster", FASTER)


def _environment(folder: Path) -> dict[str, str]:
    """Caches of their own, so that what is cold is cold; no network."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    kept |= {"AUTOMERGE_CACHE": str(folder / "cache"), "NUMBA_CACHE_DIR": str(folder / "numba")}
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONHASHSEED": "0"}


def _automerge(path: Path, folder: Path, environment: dict[str, str], *, new: bool) -> Row:
    if new:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    root = str(Path(__file__).resolve().parents[2])
    return _run([sys.executable, "-m", "automerge", "merge", str(path)], folder, environment | {"PYTHONPATH": root})


def _mergekit(path: Path, folder: Path, environment: dict[str, str]) -> Row:
    python = peer_python()
    assert python is not None
    return _run(
        [str(python.with_name("mergekit-yaml")), "--random-seed", "0", "--quiet", str(path)], folder, environment
    )


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> Row:
    out, log = folder / "out", folder / "log.txt"
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, json.dumps([*command, str(out)]), str(log)]
    done = subprocess.run(launch, check=True, capture_output=True, text=True, env=environment, cwd=folder)
    row: Row = json.loads(done.stdout)
    if row["status"] or not (out / "model.safetensors").is_file():
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    shutil.rmtree(out)
    return row
