"""Where a trial's time goes on the zoo: merging, the engine, and everything else (asking, storing, scoring, telling).

    python benchmarks/trial_overhead.py [--trials 50] [--quick] [--json]

Prints a table, writes results/trial_overhead.json, and with --json ends with one line of JSON. "Outside" is the wall
time between two finished trials that was spent neither merging nor in the engine; the aim is under 10%.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from automerge.config import load_search
from automerge.study.events import Ended, Event
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.session import make_plan, run_search
from automerge.zoo import prepare

RESULTS = Path(__file__).parent.parent / "results" / "trial_overhead.json"


def measure(trials: int) -> dict[str, float]:
    """Medians over the proposed trials (the baselines, which warm things up, left out), in seconds, and the share."""
    os.environ.setdefault("AUTOMERGE_ZOO", str(prepare()))
    walls, merges, engines = [], [], []
    last = time.perf_counter()

    def listen(event: Event) -> None:
        nonlocal last
        if isinstance(event, Ended):
            now = time.perf_counter()
            if not event.row.is_baseline and event.row.record:
                walls.append(now - last)
                merges.append(event.row.record.seconds["apply"])
                engines.append(event.row.record.seconds["engine"])
            last = now

    with tempfile.TemporaryDirectory() as folder:
        run_search(make_plan(load_search("zoo")), StudyFolder(Path(folder)), Budget(trials=trials), listen)
    outside = [wall - merge - engine for wall, merge, engine in zip(walls, merges, engines, strict=True)]
    return {
        "trials": len(walls),
        "trial_seconds": statistics.median(walls),
        "merge_seconds": statistics.median(merges),
        "engine_seconds": statistics.median(engines),
        "outside_seconds": statistics.median(outside),
        "outside_share": sum(outside) / sum(walls),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="20 trials, and nothing is written under results/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(20 if arguments.quick else arguments.trials)
    table = Table(title=f"One trial on the zoo, medians of {found['trials']:.0f}", title_justify="left")
    for column in ("part", "seconds"):
        table.add_column(column)
    for part in ("merge", "engine", "outside", "trial"):
        table.add_row(part, f"{found[f'{part}_seconds']:.3f}")
    Console().print(table)
    Console().print(f"outside merge and engine: {100 * found['outside_share']:.1f}% of all trial time (aim: under 10%)")
    if not arguments.quick:
        command = "python benchmarks/trial_overhead.py"
        RESULTS.write_text(json.dumps({"command": command, **found}, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
