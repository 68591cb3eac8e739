"""Peak memory of putting a mixture together, beyond what the process held before, in layers of what is written.

    python benchmarks/moe_memory.py [--quick] [--json]
A base and four experts of random weights, bf16, are made first. Memory is what the process owns (RssAnon, Linux only):
pages of the mapped checkpoints belong to the page cache. The bound is two layers of the sparse model. Each kind of
router has a process of its own, in which code is loaded before, by putting a small mixture together. Writes
results/moe_memory.json; --quick takes small models and writes nothing.
"""

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks.merge_memory and tests.peers

from outcome import hand_out  # noqa: E402

from automerge.moe import Mixture, open_mixture, write_mixture  # noqa: E402
from automerge.moe.config import MoeConfig  # noqa: E402
from benchmarks.merge_memory import resident  # noqa: E402
from tests.peers.pico import SIZES, pico_base, pico_fine_tune  # noqa: E402

RESULT = ROOT / "results" / "moe_memory.json"
EXPERTS = 4
LAYERS = 8
SELF = "--one"


def mixture_of(folder: Path, width: int, mode: str) -> Mixture:
    """Of models that are made in the folder, where they are not there yet."""
    sizes = {**SIZES, "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": LAYERS}
    base = folder / f"base{width}"
    tuned = [folder / f"expert{width}-{number}" for number in range(EXPERTS)]
    if not base.exists():
        pico_base(base, "llama", sizes)
        for number, path in enumerate(tuned):
            pico_fine_tune(base, path, number, 0.02)
    experts = [{"source_model": str(path), "positive_prompts": [f"prompt {path.name}"]} for path in tuned]
    config = {"base_model": str(base), "gate_mode": mode, "dtype": "bfloat16", "experts": experts}
    return open_mixture(MoeConfig.model_validate(config), folder)


def measure(folder: Path, width: int, mode: str) -> dict[str, Any]:
    """One mixture, written."""
    write_mixture(mixture_of(folder, 64, mode), "", folder / f"small-{mode}")
    mixture = mixture_of(folder, width, mode)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not to be lent again unseen
    before = peak = resident()[0]
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    write_mixture(mixture, "", folder / f"whole-{mode}")
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    layer = mixture.dtype.itemsize * sum(math.prod(s) for name, s in mixture.shapes.items() if ".layers.1." in name)
    return {
        "gate_mode": mode,
        "output_bytes": mixture.bytes,
        "layer_bytes": layer,
        "peak_bytes": peak - before,
        "bound_bytes": 2 * layer,
        "seconds": round(seconds, 2),
    }


def run(folder: str, width: str, mode: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, SELF, folder, width, mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(SELF, nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        folder, width, mode = chosen.one
        print(json.dumps(measure(Path(folder), int(width), mode)))
        return
    with tempfile.TemporaryDirectory() as made:
        rows = [
            measure(Path(made), 512 if chosen.quick else 1024, mode) for mode in ("random", "cheap_embed", "hidden")
        ]
    table = Table(title="Peak memory of a mixture, MB")
    for heading in ("router", "written", "a layer", "peak", "bound", "seconds"):
        table.add_column(heading, justify="left" if heading == "router" else "right")
    for row in rows:
        sizes = [f"{row[key] / 1e6:.1f}" for key in ("output_bytes", "layer_bytes", "peak_bytes", "bound_bytes")]
        table.add_row(row["gate_mode"], *sizes, f"{row['seconds']}")
    Console().print(table)
    summary = {"command": "python benchmarks/moe_memory.py", "rows": rows}
    hand_out(summary, RESULT, quick=chosen.quick, as_json=chosen.json)


if __name__ == "__main__":
    main()
