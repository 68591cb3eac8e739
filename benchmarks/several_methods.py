"""Several methods: one study that chooses among them, against a study each, at the same number of proposals.

    python benchmarks/several_methods.py [--seeds 5] [--proposals 39] [--quick] [--json]

The embedded zoo; dare_linear, dare_ties and ties. Together: `method: [a, b, c]`, baselines and so many proposals.
Apart: a study a method with a third of the proposals; the best of the three on search items is taken. Of each way's
best merge by search items, its objective on the held-out items. Prints a table, writes results/several_methods.json,
and with --json ends with one line of JSON. --quick: one seed, few proposals, nothing written.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from outcome import hand_out  # noqa: E402
from search.replay import new_study  # noqa: E402

from automerge.cli.opening import open_config  # noqa: E402
from automerge.config import SearchConfig, validate  # noqa: E402
from automerge.engine.base import Engine  # noqa: E402
from automerge.engine.start import start_engine  # noqa: E402
from automerge.evals.store import AnswerStore  # noqa: E402
from automerge.gate.statistics import weighted_mean  # noqa: E402
from automerge.merge.registry import get_method  # noqa: E402
from automerge.recipe import parse_recipe  # noqa: E402
from automerge.space.baselines import baselines  # noqa: E402
from automerge.space.space import SearchSpace  # noqa: E402
from automerge.study.finals import candidates  # noqa: E402
from automerge.study.jobs import Budget  # noqa: E402
from automerge.study.loop import Search  # noqa: E402
from automerge.study.records import Row  # noqa: E402
from automerge.study.session import Plan, make_plan  # noqa: E402
from automerge.study.trial import Attempt, Bench  # noqa: E402

RESULTS = ROOT / "results" / "several_methods.json"
METHODS = ["dare_linear", "dare_ties", "ties"]
PARAMETERS = {"weight": {"range": [0.0, 1.5]}, "drop": {"range": [0.0, 0.9]}, "density": {"range": [0.1, 1.0]}}


def best_of(plan: Plan, engine: Engine, store: AnswerStore, methods: list[str], proposals: int, seed: int) -> list[Row]:
    """The best merge that meets the gates on search items, of a study of these methods; empty where none does."""
    used = {parameter.name for method in methods for parameter in get_method(method).parameters}
    given = {name: PARAMETERS[name] for name in PARAMETERS if name in used}
    data = plan.config.model_dump() | {"method": methods if len(methods) > 1 else methods[0], "parameters": given}
    config = validate(SearchConfig, data | {"seed": seed}, "several methods")
    space = SearchSpace(config, plan.models)
    study: optuna.Study = new_study()
    bench = Bench(engine, plan.skills, {}, store, lambda *_: None)
    search = Search(study, space, bench, lambda event: None, dict)
    search.run(Budget(trials=len(baselines(space)) + proposals))
    return candidates(search.rows(), 1)


def held_out(plan: Plan, engine: Engine, store: AnswerStore, row: Row) -> float:
    """Its objective there."""
    assert row.record is not None
    asked = Attempt(parse_recipe(row.record.recipe), row.label, "held_out")
    trial = Bench(engine, plan.skills, {}, store, lambda *_: None).attempt(asked)
    return weighted_mean(trial.scores(), plan.config.weights)


def measure(seeds: int, proposals: int) -> list[dict[str, Any]]:
    plan = make_plan(open_config("zoo", study=None, seed=None, engine="transformers"))
    engine = start_engine(plan.models, plan.config.engine)
    rows = []
    try:
        with AnswerStore(None) as store:
            for seed in range(seeds):
                third = proposals // len(METHODS)
                found = {
                    "together": best_of(plan, engine, store, METHODS, proposals, seed),
                    "apart": [row for m in METHODS for row in best_of(plan, engine, store, [m], third, seed)],
                }
                row: dict[str, Any] = {"seed": seed}
                for way, best in found.items():
                    chosen = max(best, key=lambda row: row.value or 0.0)
                    assert chosen.record is not None
                    row[way] = held_out(plan, engine, store, chosen)
                    row[f"{way}_method"] = parse_recipe(chosen.record.recipe).method
                rows.append(row)
                print(row, flush=True)
    finally:
        engine.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--proposals", type=int, default=39)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seeds, proposals = (1, 24) if args.quick else (args.seeds, args.proposals)
    rows = measure(seeds, proposals)
    table = Table("seed", "together", "its method", "apart", "its method", title="held-out objective of the best merge")
    for row in rows:
        cells = f"{row['together']:.4f}", row["together_method"], f"{row['apart']:.4f}", row["apart_method"]
        table.add_row(str(row["seed"]), *cells)
    found = {key: mean(row[key] for row in rows) for key in ("together", "apart")}
    Console().print(table)
    print(f"on average: together {found['together']:.4f}, apart {found['apart']:.4f}")
    command = f"python benchmarks/several_methods.py --seeds {seeds} --proposals {proposals}"
    results = {"command": command, "mean": found, "seeds": rows}
    hand_out(results, RESULTS, quick=args.quick, as_json=args.json)


if __name__ == "__main__":
    main()
