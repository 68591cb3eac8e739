"""Peak memory of a merge beyond what the process held before, beside one batch and two fp32 copies of a tensor.

    python benchmarks/merge_memory.py [BASE SOURCE…] [--quick] [--json]
Without models, it makes a base and three fine-tunes of random weights. Memory is what the process owns (RssAnon in
/proc/self/status, Linux only): pages of the mapped checkpoints belong to the page cache, are given back under pressure,
and are shown apart. The bound is the largest batch (stream.BATCH_BYTES), with what adapters change of it in fp32, and
two fp32 copies of the largest tensor: the last one out, and what is measured of one. Compiled code is loaded before, by
merging small tensors. Each method runs in a process of its own; the merged tensors are dropped as they come.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automerge.merge import Merge

METHODS = ("linear", "task_arithmetic", "dare_linear", "dare_ties", "ties")
QUICK_METHODS = ("dare_ties", "ties")  # the two that hold most
RESULT = Path(__file__).parent.parent / "results" / "merge_memory.json"
SELF = "--one"


def resident() -> tuple[int, int]:
    """Bytes of anonymous and of file-backed memory held now."""
    with open("/proc/self/status", encoding="ascii") as file:
        held = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.startswith("Rss")}
    return held["RssAnon"], held["RssFile"]


def measure(method: str, base: str, sources: list[str]) -> dict[str, float | str]:
    """One merge in this process."""
    import torch

    from automerge.merge import Merge, get_method, open_models
    from automerge.recipe import Group, make_recipe

    models = open_models(base, {f"s{n}": path for n, path in enumerate(sources)})
    values: dict[str, dict[str, float]] = {}
    for parameter in get_method(method).parameters:
        if parameter.scope == "source":
            values[parameter.name] = dict.fromkeys(models.sources, 0.5)
    recipe = make_recipe(
        method=method,
        base=models.base_ref,
        sources=models.source_refs,
        groups=(Group((0, models.n_layers), "all", values),),
        options={},
        dtype="bfloat16",
        seed=0,
    )
    merge = Merge(recipe, models)
    torch.ones(1 << 16).sum()  # starts the thread pool
    load_code(merge)
    before, file_before = resident()
    peak, file_peak, done = before, file_before, threading.Event()

    def watch() -> None:
        nonlocal peak, file_peak
        while not done.wait(0.001):
            anonymous, mapped = resident()
            peak, file_peak = max(peak, anonymous), max(file_peak, mapped)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    for _ in merge.tensors():
        pass
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    largest = 4 * max(torch.Size(shape).numel() for shape in models.shapes.values())
    bound = largest_batch(merge) + 2 * largest
    return {
        "method": method,
        "peak_bytes": peak - before,
        "bound_bytes": bound,
        "share_of_bound": round((peak - before) / bound, 3),
        "mapped_bytes": file_peak - file_before,
        "largest_fp32_bytes": largest,
        "seconds": round(seconds, 2),
        "checksum": merge.checksum,
    }


def load_code(merge: "Merge") -> None:
    """Merges one small tensor for each set of sources that change it, so that nothing is left to import or compile."""
    small: dict[tuple[str, ...], str] = {}
    for name in sorted(merge.names, key=lambda name: math.prod(merge.shapes[name])):
        changing = tuple(key for key, source in merge.frame.sources_of(name).items() if source.changes(name))
        small.setdefault(changing, name)
    for name in small.values():
        merge.merge_tensor(name)


def largest_batch(merge: "Merge") -> int:
    """Bytes of the largest batch: its output, and in fp32 the deltas of what is not stored in full."""
    sizes = []
    for batch in merge._batches():
        size = 0
        for name in batch:
            elements = math.prod(merge.shapes[name])
            formed = [s for s in merge.frame.sources_of(name).values() if s.changes(name) and s.stored(name) is None]
            size += elements * (merge.dtype.itemsize + 4 * len(formed))
        sizes.append(size)
    return max(sizes)


def make_models(folder: Path, quick: bool) -> list[str]:
    """A base and three fine-tunes of random weights, bf16."""
    import torch
    from safetensors.torch import save_file

    width, layers, vocabulary = (256, 2, 8192) if quick else (1024, 4, 65536)
    shapes = {"model.embed_tokens.weight": (vocabulary, width)}
    for n in range(layers):
        shapes[f"model.layers.{n}.self_attn.q_proj.weight"] = (width, width)
        shapes[f"model.layers.{n}.mlp.up_proj.weight"] = (4 * width, width)
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}
    for name in ("base", "a", "b", "c"):
        made = base
        if name != "base":
            made = {k: v + 4e-4 * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        (folder / name).mkdir()
        save_file({key: value.bfloat16() for key, value in made.items()}, folder / name / "model.safetensors")
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
        (folder / name / "config.json").write_text(json.dumps(config))
    return [str(folder / name) for name in ("base", "a", "b", "c")]


def run(models: list[str], methods: tuple[str, ...]) -> list[dict[str, float | str]]:
    """Each method in a process of its own."""
    rows = []
    for method in methods:
        command = [sys.executable, __file__, *models, SELF, method]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def show(rows: list[dict[str, float | str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Peak memory of a merge, MB")
    for heading in ("method", "peak", "bound", "share", "mapped pages", "seconds"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in rows:
        sizes = [f"{float(row[key]) / 1e6:.1f}" for key in ("peak_bytes", "bound_bytes")]
        mapped = f"{float(row['mapped_bytes']) / 1e6:.1f}"
        table.add_row(str(row["method"]), *sizes, f"{row['share_of_bound']:.2f}", mapped, f"{row['seconds']}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="the base, then its sources")
    parser.add_argument("--quick", action="store_true", help="small models, two methods")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument(SELF, choices=METHODS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.models[0], chosen.models[1:])))
        return
    if len(chosen.models) == 1:
        parser.error("name the base and at least one source, or nothing")
    with tempfile.TemporaryDirectory() as made:
        models = chosen.models or make_models(Path(made), chosen.quick)
        rows = run(models, QUICK_METHODS if chosen.quick else METHODS)
    show(rows)
    command = " ".join(["python benchmarks/merge_memory.py", *(Path(model).name for model in chosen.models)])
    summary = {"benchmark": "merge_memory", "command": command, "quick": chosen.quick, "rows": rows}
    if not chosen.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if chosen.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
