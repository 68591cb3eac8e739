"""How few generated tokens a search needs, and how often its verdict is wrong, over many replayed studies.

    python benchmarks/search_efficiency.py [--studies 60] [--quick] [--json]

Replays results/landscape/zoo.npz (benchmarks/record_landscape.py). Prints tables, writes
results/search_efficiency.json, and with --json ends with one line of JSON. Three sections:

  racing     error rates of the stopping rule, beside Optuna's WilcoxonPruner and a test by betting
  tokens     tokens until the held-out score that CMA-ES and random search end with, which ask every item of every point
  promotion  how often PROMOTED where nothing is better, and where something is, by twice the margin of error
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a study

from rich.console import Console
from rich.table import Table
from search import rules, studies
from search.landscape import Landscape, fidelity
from search.replay import Replay

ROOT = Path(__file__).parent.parent
LANDSCAPE, RESULTS = ROOT / "results" / "landscape" / "zoo.npz", ROOT / "results" / "search_efficiency.json"
PEER_TRIALS, OUR_TRIALS = 100, 50  # mergekit-evolve's own default; ours
SECTIONS = ("racing", "tokens", "promotion")
_kept: dict[str, Any] = {}


def _world() -> tuple[Landscape, Any]:
    """Made once a process."""
    if not _kept:
        _kept["world"] = Landscape(LANDSCAPE), studies.space_of(LANDSCAPE)
    return _kept["world"]  # type: ignore[no-any-return]


def _tokens(seed: int) -> dict[str, Any]:
    landscape, space = _world()
    return studies.tokens_of(landscape, space, seed, PEER_TRIALS, OUR_TRIALS)


def _promotion(task: tuple[str, int]) -> tuple[str, str]:
    truth, seed = task
    landscape, space = _world()
    best = landscape.at(dict(zip(landscape.names, (landscape.low + landscape.high) / 2, strict=True)))
    ahead = 2 * studies.margin_of_error(landscape, Replay.held_out_items)
    alter = studies.flat(best, seed) if truth == "flat" else studies.hill(best, ahead, seed)
    return truth, studies.verdict_of(space, Replay(landscape, seed, alter=alter), OUR_TRIALS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="Only these; the others are kept.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    count = 4 if args.quick else args.studies
    console = Console()
    began = time.perf_counter()
    _world()  # and the zoo, trained once before there are processes

    def keep(found: dict[str, Any]) -> None:
        if not args.quick:
            RESULTS.write_text(json.dumps(found) + "\n", encoding="utf-8")

    chosen = args.section or SECTIONS
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if args.section and RESULTS.exists() else {}
    found["command"] = f"python benchmarks/search_efficiency.py --studies {count}"
    found["landscape"] = {"merges": len(_world()[0].points), **fidelity(LANDSCAPE, 20 if args.quick else 80)}
    console.print(found["landscape"])
    if "racing" in chosen:
        found["racing"] = rules.measure(300 if args.quick else 4000)
        console.print(_racing_table(found["racing"]))
        keep(found)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        if "tokens" in chosen:
            found["studies"] = list(pool.map(_tokens, range(count)))
            found["tokens"] = studies.summary(found["studies"])
            console.print(_tokens_table(found["tokens"]))
            keep(found)
        if "promotion" in chosen:
            tasks = [(truth, seed) for truth in ("flat", "hill") for seed in range(count)]
            found["promotion"] = _promotions(list(pool.map(_promotion, tasks)))
            console.print(found["promotion"])
    found["minutes"] = (time.perf_counter() - began) / 60
    keep(found)
    if args.json:
        print(json.dumps({key: value for key, value in found.items() if key != "studies"}))


def _promotions(outcomes: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for truth in ("flat", "hill"):
        own = [outcome for name, outcome in outcomes if name == truth]
        found[truth] = {"studies": len(own), "promoted": own.count("PROMOTED") / len(own)}
        found[truth] |= {outcome: own.count(outcome) for outcome in sorted(set(own))}
    return found


def _racing_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("rule", "items changed", *(f"{what}: stopped at cost" for what in rules.SHIFTS), title="Racing")
    for row in rows:
        cells = [f"{100 * row[what]['stopped']:.1f}% at {100 * row[what]['cost']:.0f}%" for what in rules.SHIFTS]
        table.add_row(row["rule"], f"{row['changed']:.1f}", *cells)
    return table


def _tokens_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("way", "against", "tokens to its score", "reached", "ahead at equal tokens", title="Generated tokens")
    for row in rows:
        low, middle, high = row["tokens, share of the peer's"]
        ahead = row["held-out score ahead at equal tokens"]
        table.add_row(
            row["way"],
            row["against"],
            f"1/{1 / middle:.1f} (1/{1 / low:.1f} … 1/{1 / high:.1f})",
            f"{100 * row['reached']:.0f}%",
            f"{ahead[1]:+.4f} ({ahead[0]:+.4f} … {ahead[2]:+.4f})",
        )
    return table


if __name__ == "__main__":
    main()
