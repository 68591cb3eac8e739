"""Real problems: every reference solution passes, and one made wrong fails, as plain Python says. A sample; all with
the marker `full`."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from automerge.evals.sandbox import judge as judging
from automerge.evals.sandbox.checks import Suite, read_tests
from automerge.evals.sandbox.choice import sandbox_level
from automerge.evals.sandbox.spawning import Spawner
from automerge.records import Score
from benchmarks.mutants import mutants, passes_plainly

SHARED = Path(os.environ.get("AUTOMERGE_SHARED", Path(__file__).parents[4] / "shared")).absolute() / "data"
SECONDS = 15.0

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real items at {SHARED}; set AUTOMERGE_SHARED"),
]


def items(file: str) -> list[tuple[str, str, Suite]]:
    """(id, reference solution, tests) of every item."""
    found = []
    for line in (SHARED / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if file == "humaneval":
            tests = read_tests(row["test"], "", row["entry_point"])
            found.append((row["task_id"], row["prompt"] + row["canonical_solution"], tests))
        else:
            tests = read_tests("\n".join(row["test_list"]), row["test_setup_code"].replace("\r\n", "\n"))
            found.append((row["task_id"], row["code"].replace("\r\n", "\n"), tests))
    return found


def missed(spawner: Spawner, chosen: list[tuple[str, str, Suite]]) -> dict[str, Score]:
    def one(item: tuple[str, str, Suite]) -> Score:
        return judging._judge(spawner, item[1], item[2], SECONDS)

    with ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(one, chosen))
    return {name: score for (name, _, _), score in zip(chosen, scores, strict=True) if score.value != 1}


FILES = ["mbpp_train", "mbpp_validation", "mbpp_test", "humaneval"]
SPECIAL = {"mbpp/927", "mbpp/601", "mbpp/596", "mbpp/126", "HumanEval/32", "HumanEval/53", "HumanEval/151"}


@pytest.mark.parametrize("file", FILES)
def test_reference_solutions_pass(spawner: Spawner, file: str) -> None:
    every = items(file)
    chosen = every[::20] + [item for item in every if item[0] in SPECIAL]
    assert not missed(spawner, chosen)


@pytest.mark.full
@pytest.mark.parametrize("file", FILES)
def test_every_reference_solution_passes(spawner: Spawner, file: str) -> None:
    assert not missed(spawner, items(file))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of solutions, when they are parsed to be made wrong
@pytest.mark.parametrize("step", [pytest.param(4, marks=pytest.mark.full), 40])
@pytest.mark.parametrize("file", FILES)
def test_wrong_mutants_fail(file: str, step: int) -> None:
    """Every second mutant of every n-th solution. Those that plain Python passes too are equal as far as the tests see;
    of the rest at least 95% must fail (all do; a mutant may run out of time here and not there)."""
    sandbox_level()
    wrong, failed, wrongly_failed = 0, 0, []
    for name, program, tests in items(file)[::step]:
        for what, mutant in list(mutants(program))[::2][:6]:
            plain = passes_plainly(mutant, tests.setup, tests.text, tests.last, 2)
            score = judging.judge(mutant, tests, seconds=2.0)
            wrong += not plain
            failed += not plain and score.value == 0
            if plain and score.value != 1:
                wrongly_failed.append((name, what, score))
    assert wrong and failed >= 0.95 * wrong
    assert not wrongly_failed
