"""Hostile answers to "write add(a, b) that returns the sum": each is judged wrong, and touches nothing."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automerge.evals.sandbox import judge as judging
from automerge.evals.sandbox.checks import read_tests
from automerge.evals.sandbox.process import CLOCK, Process
from automerge.evals.sandbox.spawning import Spawner
from automerge.records import Score
from tests.evals.sandbox.canaries import Canaries, planted

OWN = sorted((Path(__file__).parents[2] / "cases" / "hostile").glob("*.py"))
SHARED = Path(os.environ.get("AUTOMERGE_SHARED", Path(__file__).parents[4] / "shared")).absolute() / "hostile"
GIVEN = sorted(SHARED.glob("*.py"))
TESTS = read_tests("assert add(2, 3) == 5\nassert add(-1, 1) == 0")
SECOND = read_tests("for a, b in [(2, 3), (-1, 1)]:\n    assert add(a, b) == a + b")
SECONDS, HONEST_SECONDS = 0.4, 5.0  # a hostile program mostly takes all it gets


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with planted() as found:
        yield found


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """What the sandboxes of a test print."""
    kept = bytearray()

    class Recorded(Process):
        def close(self) -> None:
            super().close()
            kept.extend(self.output)
            self.output.clear()

    monkeypatch.setattr(judging, "Process", Recorded)
    return kept


def contained(spawner: Spawner, program: Path, canaries: Canaries, printed: bytearray) -> list[Score]:
    """The verdicts with tests outside and in a second sandbox; both within bounds of time, and nothing touched."""
    assert TESTS.checks is not None and SECOND.checks is None
    verdicts = []
    for tests in (TESTS, SECOND):
        began = time.monotonic()
        seconds = HONEST_SECONDS if program.stem == "00_honest" else SECONDS
        verdicts.append(judging._judge(spawner, program.read_text(), tests, seconds))
        assert time.monotonic() - began < CLOCK * seconds + 10
        canaries.check(printed.decode("utf-8", "replace"))
    assert spawner.alive
    return verdicts


@pytest.mark.parametrize("program", OWN, ids=lambda path: path.stem)
def test_own_programs_are_contained(spawner: Spawner, program: Path, canaries: Canaries, printed: bytearray) -> None:
    verdicts = contained(spawner, program, canaries, printed)
    assert [verdict.value for verdict in verdicts] == [0.0, 0.0], verdicts


@pytest.mark.shared
@pytest.mark.skipif(not GIVEN, reason=f"no programs at {SHARED}; set AUTOMERGE_SHARED")
@pytest.mark.parametrize("program", GIVEN, ids=lambda path: path.stem)
def test_given_programs_are_contained(spawner: Spawner, program: Path, canaries: Canaries, printed: bytearray) -> None:
    verdicts = contained(spawner, program, canaries, printed)
    right = 1.0 if program.stem == "00_honest" else 0.0
    assert [verdict.value for verdict in verdicts] == [right, right], verdicts


def test_the_machine_can_be_used_after_all_of_this(spawner: Spawner) -> None:
    assert judging._judge(spawner, "def add(a, b): return a + b", TESTS, 5.0) == Score(1.0)
