"""What several workers give, and what driving them costs.

    python benchmarks/scale.py [--quick] [--json]

efficiency   a fake engine of fixed latency in 32 workers, trials of 10 s: the ideal time over the time taken, TPE
overhead     our ask, record and tell against Optuna's ask, suggest and tell alone, on SQLite: ratio of medians
workers      candidates a second of the zoo: two real workers on two cores against one on one core, and one on both
Prints a table, writes results/scale.json, and with --json ends with one line of JSON. --quick: fewer and shorter,
nothing written.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from outcome import hand_out
from rich.console import Console
from rich.table import Table

from automerge.config import load_search
from automerge.engine.fake import FakeEngine
from automerge.recipe import Recipe
from automerge.records import Applied
from automerge.study.events import Ended, Event, Stage
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.session import Plan, make_plan, run_search
from automerge.study.store import open_study
from automerge.zoo import VARIABLE, prepare

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "scale.json"
SELF = "--one"


class Sleeping(FakeEngine):
    """Takes so many seconds a merge, and none to answer."""

    def __init__(self, seconds: float) -> None:
        super().__init__(lambda recipe, prompt: "x")
        self._seconds = seconds

    def apply(self, recipe: Recipe) -> Applied:
        time.sleep(self._seconds)
        return super().apply(recipe)


def plan() -> Plan:
    """The zoo, by TPE, every candidate asked everything, with few items: what is measured is not the scoring."""
    config = load_search("zoo")
    few = {name: {"use": use, "items": {"search": 32, "held_out": 32}} for name, use in config.skills.items()}
    changed = {"skills": few, "racing": False, "sampler": {"name": "tpe"}, "gates": []}
    folder = config.folder
    loaded = type(config).model_validate({**config.model_dump(), **changed})
    return make_plan(loaded.model_copy(update={"folder": folder}))


def searched(seconds: float, workers: int, trials: int, start: Callable[..., Any] | None = None) -> float:
    """Seconds from the first candidate to the last."""
    times: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Ended) or (isinstance(event, Stage) and event.name == "searching"):
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        made = start or (lambda plan, share: Sleeping(seconds))
        run_search(plan(), StudyFolder(Path(folder, "s")), Budget(trials=trials), listen, workers=workers, start=made)
    return times[-1] - times[0]


def efficiency(workers: int, seconds: float, rounds: int) -> dict[str, float]:
    """Baselines that gates refer to come first in every study, so there is one more round than in the ideal."""
    took = searched(seconds, workers, workers * rounds)
    return {
        "workers": workers,
        "trial_seconds": seconds,
        "trials": workers * rounds,
        "efficiency": rounds * seconds / took,
    }


def overhead(trials: int) -> dict[str, float]:
    """Milliseconds a trial."""
    made = plan()
    with tempfile.TemporaryDirectory() as folder:
        ours = searched(0.0, 1, trials) / trials
        study = open_study("bare", f"sqlite:///{folder}/bare.db", objectives=1)
        took = []
        for number in range(trials):
            begun = time.perf_counter()
            study.sampler = optuna.samplers.TPESampler(seed=number, multivariate=True, n_startup_trials=10)
            trial = study.ask()
            value = sum(trial.suggest_float(n, d.low, d.high) for n, d in made.space.distributions.items())
            trial.set_constraint("gates", -1.0)
            study.tell(trial, value)
            took.append(time.perf_counter() - begun)
    bare = statistics.mean(took)
    return {"trials": trials, "ours_ms": 1000 * ours, "optuna_ms": 1000 * bare, "ratio": ours / bare}


def real(trials: int) -> dict[str, float]:
    """Candidates a second of the zoo as it is, engine starts not counted: two workers and their driver on two cores,
    one with its driver on one core, and one that has both."""
    cores = sorted(os.sched_getaffinity(0))
    two, alone, both = (rate(trials, workers, cores[:n]) for workers, n in ((2, 2), (1, 1), (1, 2)))
    return {"two": two, "one_on_one_core": alone, "one_on_both": both, "ratio": two / alone, "of_both": two / both}


def rate(trials: int, workers: int, cores: list[int]) -> float:
    """In a process of its own, on these cores."""
    command = [sys.executable, __file__, SELF, str(trials), str(workers)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    return float(done.stdout.splitlines()[-1])


def measure(trials: int, workers: int) -> float:
    """Candidates a second."""
    times: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Ended):
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        config = load_search("zoo").model_copy(update={"racing": False})
        study = StudyFolder(Path(folder, "s"))
        run_search(make_plan(config), study, Budget(trials=trials), listen, workers=workers)
    return (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(SELF, nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault(VARIABLE, str(prepare()))
    if args.one:
        print(measure(*args.one))
        return
    results: dict[str, Any] = {"command": "python benchmarks/scale.py"}
    results["overhead"] = overhead(20 if args.quick else 200)
    results["efficiency"] = efficiency(8, 1.0, 3) if args.quick else efficiency(32, 10.0, 8)
    results["workers"] = real(12 if args.quick else 60)
    table = Table("what", "figure", "aim")
    found = results["efficiency"]
    table.add_row(
        f"{found['workers']} workers, trials of {found['trial_seconds']:g} s: efficiency",
        f"{found['efficiency']:.3f}",
        "≥ 0.95",
    )
    found = results["overhead"]
    table.add_row(
        "ask + tell against Optuna's own",
        f"{found['ours_ms']:.1f} ms ÷ {found['optuna_ms']:.1f} = {found['ratio']:.2f}",
        "≤ 1.5",
    )
    found = results["workers"]
    table.add_row("two real workers on two cores against one on one, zoo", f"{found['ratio']:.2f}×", "≥ 1.7×")
    table.add_row("… against one that has both cores", f"{found['of_both']:.2f}×", "")
    Console().print(table)
    hand_out(results, RESULTS, quick=args.quick, as_json=args.json)


if __name__ == "__main__":
    main()
