"""The sandbox on real problems: how fast, and how right. MBPP and HumanEval from ../shared/data (AUTOMERGE_SHARED).

    python benchmarks/sandbox.py [--quick] [--json]

Reference solutions must pass and mutants of them (one place made wrong) must fail. Whether a mutant is wrong is asked
of plain Python, which runs the same asserts without a sandbox. Prints a table, writes results/sandbox.json, and with
--json ends with one line of JSON. --quick takes a part of the items and writes nothing.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants import mutants, passes_plainly
from rich.console import Console
from rich.table import Table

from automerge.evals.sandbox.checks import Suite, read_tests
from automerge.evals.sandbox.choice import sandbox_level
from automerge.evals.sandbox.judge import judge
from automerge.records import Score

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "sandbox.json"
SHARED = Path(os.environ.get("AUTOMERGE_SHARED", ROOT.parent / "shared"))
FILES = ("mbpp_train", "mbpp_validation", "mbpp_test", "humaneval")
CORES = 2
SECONDS = 10.0
MUTANT_SECONDS = 2.0


@dataclass(frozen=True)
class Problem:
    """A reference solution with its tests."""

    name: str
    program: str
    tests: Suite


def problems(files: Sequence[str]) -> list[Problem]:
    """Every item of these files."""
    found = []
    for file in files:
        for line in (SHARED / "data" / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "entry_point" in row:
                tests = read_tests(row["test"], "", row["entry_point"])
                found.append(Problem(row["task_id"], row["prompt"] + row["canonical_solution"], tests))
            else:
                tests = read_tests("\n".join(row["test_list"]), row["test_setup_code"].replace("\r\n", "\n"))
                found.append(Problem(row["task_id"], row["code"].replace("\r\n", "\n"), tests))
    return found


def on_cores(work: Callable[[Any], Any], what: Sequence[Any]) -> tuple[list[Any], float]:
    """The results, and the seconds they took on CORES cores; two at once a core, as the scorer does."""
    began = time.perf_counter()
    with ThreadPoolExecutor(2 * CORES) as pool:
        return list(pool.map(work, what)), time.perf_counter() - began


def references(chosen: Sequence[Problem]) -> dict[str, Any]:
    """Reference solutions: which pass, and how many a second."""
    scores, seconds = on_cores(lambda p: judge(p.program, p.tests, seconds=SECONDS), chosen)
    missed = {p.name: s.detail for p, s in zip(chosen, scores, strict=True) if s.value != 1}
    return {"items": len(chosen), "passed": len(chosen) - len(missed), "missed": missed, "seconds": seconds}


def speed(chosen: Sequence[Problem], rounds: int) -> dict[str, Any]:
    """Problems a second: the median of rounds, and the best one (the machine is shared)."""
    rates = [
        len(chosen) / on_cores(lambda p: judge(p.program, p.tests, seconds=SECONDS), chosen)[1] for _ in range(rounds)
    ]
    return {
        "items": len(chosen),
        "rounds": rounds,
        "per_second": statistics.median(rates),
        "best_per_second": max(rates),
    }


def wrong(chosen: Sequence[Problem], each: int) -> dict[str, Any]:
    """Up to `each` mutants a problem, chosen by seed: the sandbox's verdict beside plain Python's."""
    made = []
    for problem in chosen:
        own = list(mutants(problem.program))
        made += [(problem, *one) for one in random.Random(problem.name).sample(own, min(each, len(own)))]

    def both(mutant: tuple[Problem, str, str]) -> tuple[Score, bool]:
        problem, _, program = mutant
        tests = problem.tests
        plain = passes_plainly(program, tests.setup, tests.text, tests.last, int(MUTANT_SECONDS))
        return judge(program, tests, seconds=MUTANT_SECONDS), plain

    verdicts, _ = on_cores(both, made)
    differ = [
        {"item": problem.name, "change": what, "plain": plain, "sandbox": score.value, "detail": score.detail}
        for (problem, what, _), (score, plain) in zip(made, verdicts, strict=True)
        if (score.value == 1) != plain
    ]
    wrong_ones = [score for score, plain in verdicts if not plain]
    unseen = [f"{p.name}, {what}" for (p, what, _), (_, plain) in zip(made, verdicts, strict=True) if plain]
    return {
        "mutants": len(made),
        "wrong_in_plain_python": len(wrong_ones),
        "of_them_failed": sum(score.value == 0 for score in wrong_ones),
        "equal_on_the_tests": len(unseen),
        "verdicts_that_differ": differ,
        "equal_ones": unseen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every 16th item; nothing is written under results/")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    every = problems(FILES)
    step = 16 if arguments.quick else 1
    level = sandbox_level()
    found: dict[str, Any] = {"command": "python benchmarks/sandbox.py", "level": level.name, "cores": CORES}
    found["load_before"] = os.getloadavg()[0]  # what else ran: on a busy machine the rate is that of the rest
    fast = [p for p in every if p.name != "mbpp/123"]  # its reference takes four seconds by itself
    found["speed"] = speed(fast[:: max(step, 4)], 3 if arguments.quick else 5)
    found["references"] = references(every[::step])
    found["mutants"] = wrong(every[::step], 1 if arguments.quick else 2)
    table = Table(title=f"The sandbox ({level.name}) on {CORES} cores", title_justify="left")
    for column in ("what", "figure"):
        table.add_column(column)
    rate, passed, mutated = found["speed"], found["references"], found["mutants"]
    table.add_row("problems a second", f"{rate['per_second']:.1f} (best {rate['best_per_second']:.1f}; aim: 40)")
    table.add_row("references that pass", f"{passed['passed']} of {passed['items']}")
    table.add_row("wrong mutants that fail", f"{mutated['of_them_failed']} of {mutated['wrong_in_plain_python']}")
    table.add_row("mutants the tests cannot tell", f"{mutated['equal_on_the_tests']} of {mutated['mutants']}")
    Console().print(table)
    if not arguments.quick:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
