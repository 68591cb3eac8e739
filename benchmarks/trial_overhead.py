"""Where a trial's time goes: merging, the engine, and everything else (asking, scoring, storing, telling).

    python benchmarks/trial_overhead.py [--space zoo] [--trials 50] [--quick] [--json]

Prints a table, writes results/trial_overhead.json (which has an entry a space), and with --json ends with one line of
JSON. "Outside" is the wall time between two finished trials that was spent neither merging nor in the engine; the
aim is under 10%. Of it, "scoring" is what scorers take (aim: under 5%), and "store" reading and writing the store of
answers (aim: under 2%).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from automerge.config import load_search
from automerge.evals.store import AnswerStore
from automerge.study.events import Ended, Event, Stage
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.session import make_plan, run_search
from automerge.zoo import make_known

RESULTS = Path(__file__).parent.parent / "results" / "trial_overhead.json"


AIMS = {"outside": 0.1, "scoring": 0.05, "store": 0.02}  # shares of all trials' time
PARTS = {"merge": "apply", "engine": "engine", "scoring": "scoring"}  # as a record names them
STORE = ("write", "answers", "words", "scores", "keep_words", "results", "item_scores")  # AnswerStore's


@contextmanager
def timed_store() -> Iterator[Callable[[], float]]:
    """Gives the seconds that have been spent in answer stores since it was last asked."""
    spent = 0.0

    def timed(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent += time.perf_counter() - start

        return call

    def taken() -> float:
        nonlocal spent
        found, spent = spent, 0.0
        return found

    with ExitStack() as stack:
        for name in STORE:
            stack.enter_context(mock.patch.object(AnswerStore, name, timed(getattr(AnswerStore, name))))
        yield taken


class Enough(Exception):
    """The trials are over: no verdict is wanted."""


def measure(space: str, trials: int) -> dict[str, Any]:
    """Medians over the proposed trials (the baselines, which warm things up, left out), in seconds, and shares of all
    their time."""
    make_known(space)
    found: dict[str, list[float]] = {part: [] for part in ("trial", *PARTS, "store")}
    last = time.perf_counter()

    def listen(event: Event) -> None:
        nonlocal last
        if isinstance(event, Stage) and event.name == "proving":
            raise Enough
        if isinstance(event, Ended):
            now, stored = time.perf_counter(), taken()
            record = event.row.record
            if not event.row.is_baseline and record and not record.error:
                found["trial"].append(now - last)
                found["store"].append(stored)
                for part, name in PARTS.items():
                    found[part].append(record.seconds[name])
            last = now

    with tempfile.TemporaryDirectory() as folder, timed_store() as taken, suppress(Enough):
        run_search(make_plan(load_search(space)), StudyFolder(Path(folder)), Budget(trials=trials), listen)
    found["outside"] = [
        wall - merge - engine
        for wall, merge, engine in zip(found["trial"], found["merge"], found["engine"], strict=True)
    ]
    whole = sum(found["trial"])
    seconds = {f"{part}_seconds": statistics.median(values) for part, values in found.items()}
    shares = {f"{part}_share": sum(found[part]) / whole for part in AIMS}
    return {"space": space, "trials": len(found["trial"]), **seconds, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="zoo", help="a search space's name, or a config")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="20 trials, and nothing is written under results/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.space, 20 if arguments.quick else arguments.trials)
    table = Table(title=f"One trial of {found['space']}, medians of {found['trials']}", title_justify="left")
    for column in ("part", "seconds", "of all trials' time", "aim"):
        table.add_column(column)
    for part in ("trial", *PARTS, "store", "outside"):
        aim = (f"{100 * found[f'{part}_share']:.1f}%", f"< {100 * AIMS[part]:g}%") if part in AIMS else ()
        table.add_row(part, f"{found[f'{part}_seconds']:.3f}", *aim)
    Console().print(table)
    if not arguments.quick:
        kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        name = "" if found["space"] == "zoo" else f" --space {found['space']} --trials {arguments.trials}"
        kept[found["space"]] = {"command": f"python benchmarks/trial_overhead.py{name}", **found}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
