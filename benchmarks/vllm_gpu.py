"""A 7B-shaped model on a GPU: from parameters to the first new token in a running vLLM, sources resident or pinned.

    python benchmarks/vllm_gpu.py [--folder FOLDER] [--layers 32] [--applies 10] [--residency device pinned]

Prints a table, writes results/vllm_gpu.json. Mistral-7B's shapes, random bf16 values, base + 2 full checkpoints, DARE
per layer; vLLM with CUDA graphs (no torch.compile, which changes no weights). The checkpoints are written under
FOLDER first: 43.5 GB; a tmpfs will do. Without CUDA it says so and exits with 1; with --layers 2 it can be tried out.
Medians of `applies`, after two that are not counted, by part (speed/turnaround.py); `apply` is all but the first token.
`extra` is the most that torch's allocator held in the GPU during an apply beyond what it held before.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from speed.models import MISTRAL_7B, STD, Size
from speed.turnaround import turnaround

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests

from automerge.config import EngineConfig  # noqa: E402
from automerge.engine.vllm import VllmEngine  # noqa: E402
from automerge.merge import Models, open_models  # noqa: E402
from automerge.recipe import Group, Recipe, make_recipe  # noqa: E402
from tests.tiny import tiny_tokenizer  # noqa: E402

RESULTS = ROOT / "results" / "vllm_gpu.json"
FILES = 8  # a checkpoint
AIMS = {"device": 150.0, "pinned": 3000.0}  # milliseconds an apply
ARGUMENTS = {
    "max_model_len": 512,
    "max_num_seqs": 8,
    "kv_cache_memory_bytes": 1 << 30,
    "compilation_config": {"mode": 0, "cudagraph_mode": "FULL", "cudagraph_capture_sizes": [1, 2, 4, 8]},
}
PARTS = ("apply", "merge", "repack", "reset", "rest", "first", "seconds")


def write_checkpoints(root: Path, size: Size) -> list[Path]:
    """A base and two sources that differ from it by 0.02 of its own deviation, made on the GPU."""
    made = []
    for number, name in enumerate(("base", "source0", "source1")):
        made.append(root / name)
        made[-1].mkdir(parents=True)
        with ThreadPoolExecutor(FILES) as pool:
            parts = list(pool.map(partial(_write_part, made[-1], size, number), range(FILES)))
        index = {tensor: file for part in parts for tensor, file in part.items()}
        (made[-1] / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        (made[-1] / "config.json").write_text(json.dumps(size.config()), encoding="utf-8")
        tiny_tokenizer(made[-1], size.words)
    return made


def _write_part(folder: Path, size: Size, number: int, part: int) -> dict[str, str]:
    """Every FILES-th tensor; tensor → file name."""
    file, tensors = f"model-{part + 1:05d}-of-{FILES:05d}.safetensors", {}
    shapes = list(size.shapes().items())
    for place in range(part, len(shapes), FILES):
        name, shape = shapes[place]
        values = _random(shape, place) * STD
        if number:
            values += STD * STD * _random(shape, place + 100_000 * number)
        tensors[name] = values.bfloat16().cpu()
    save_file(tensors, folder / file, metadata={"format": "pt"})
    return dict.fromkeys(tensors, file)


def _random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def recipe_of(models: Models, number: int) -> Recipe:
    """Other drop rates in every layer and other masks for each number."""
    groups = []
    for layer in range(models.n_layers):
        drop = 0.3 + ((layer + number) % 32) / 100
        values: dict[str, Any] = {"weight": {"source0": 0.4, "source1": 0.6}}
        values["drop"] = dict.fromkeys(("source0", "source1"), drop)
        groups.append(Group((layer, layer + 1), "all", values))
    return make_recipe(
        method="dare_linear",
        base=models.base_ref,
        sources=models.source_refs,
        groups=tuple(groups),
        options={},
        dtype="bfloat16",
        seed=number,
    )


def timed(engine: VllmEngine, models: Models, number: int) -> dict[str, float]:
    """Milliseconds by part; `apply` is all but the first token."""
    found = {key: 1000 * value for key, value in turnaround(engine, recipe_of(models, number)).items()}
    return found | {"apply": found["seconds"] - found["first"]}


def measure(models: Models, folder: Path, residency: str, applies: int) -> dict[str, Any]:
    """Medians of a residency's applies."""
    config = EngineConfig.model_validate({"name": "vllm", "arguments": ARGUMENTS, "residency": residency})
    engine = VllmEngine(models, config, folder / f"{residency}.log", print)
    try:
        begun = time.perf_counter()
        timed(engine, models, 0)
        started = time.perf_counter() - begun
        timed(engine, models, 1)
        rows = [timed(engine, models, 2 + number) for number in range(applies)]
        told = engine.reports[0]
        return {
            "residency": residency,
            "engine": engine.fingerprint,
            "start_s": started,
            **{part: statistics.median(row[part] for row in rows) for part in PARTS},
            "slowest_apply": max(row["apply"] for row in rows),
            "held_gb": told["held"] / 1e9,
            "extra_mb": told["extra"] / 1e6,
            "checksum": engine.apply(recipe_of(models, 2)).checksum,
        }
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written, or were by a run before")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--applies", type=int, default=10)
    parser.add_argument("--residency", nargs="+", default=list(AIMS), choices=AIMS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and arguments.layers == 32:
        sys.exit("This benchmark needs a CUDA GPU, and torch finds none. On a CPU: benchmarks/vllm_turnaround.py")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        size = replace(MISTRAL_7B, layers=arguments.layers)
        begun = time.perf_counter()
        paths = [folder / name for name in ("base", "source0", "source1")]
        if not paths[-1].exists():
            paths = write_checkpoints(folder, size)
        print(f"checkpoints written in {time.perf_counter() - begun:.0f} s", flush=True)
        begun = time.perf_counter()
        models = open_models(str(paths[0]), {path.name: str(path) for path in paths[1:]})
        print(f"opened, digests and all, in {time.perf_counter() - begun:.0f} s", flush=True)
        found = []
        for residency in arguments.residency:
            found.append(measure(models, folder, residency, arguments.applies))
            print(json.dumps(found[-1]), flush=True)
    table = Table(title=f"{arguments.layers} layers of Mistral-7B's shape, ms", title_justify="left")
    for column in ("residency", *PARTS, "extra, MB", "aim"):
        table.add_column(column, justify="left" if column == "residency" else "right")
    for row in found:
        cells = [f"{row[part]:.1f}" for part in PARTS]
        table.add_row(row["residency"], *cells, f"{row['extra_mb']:.0f}", f"{AIMS[row['residency']]:.0f}")
    Console().print(table)
    assert len({row["checksum"] for row in found}) == 1, "residency shows in the bytes"
    if torch.cuda.is_available():
        command = f"python benchmarks/vllm_gpu.py --layers {arguments.layers} --applies {arguments.applies}"
        RESULTS.write_text(json.dumps({"command": command, "rows": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
