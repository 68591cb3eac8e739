"""The screen's time left, told again for studies that were really run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.cli import opening
from automerge.cli.live import _State
from automerge.errors import SkillError
from automerge.study.events import Ended, Stage
from automerge.study.jobs import Budget
from automerge.study.records import Record, Row
from automerge.study.session import Plan

RESULTS = Path(__file__).parents[2] / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob("*/trials.json"))


def seconds_of(text: str) -> float:
    minutes, _, seconds = text.partition(":")
    return 60 * int(minutes) + int(seconds)


def state(budget: int, workers: int = 1) -> _State:
    plan = object.__new__(Plan)  # of which the time left asks nothing
    told = _State(plan, Budget(trials=budget), workers)
    told.take(Stage("searching", budget))
    return told


def ended(number: int, seconds: float, baseline: bool = False, restored: bool = False) -> Ended:
    record = Record("", "", 0.0, {}, {}, 0, {"total": seconds})
    label = f"trial {number}"
    return Ended(Row(number, label, "complete", baseline, {}, record), number + 1, 0.0, restored)


@pytest.mark.parametrize("study", STUDIES)
def test_after_a_third_it_is_right_within_a_quarter(study: str) -> None:
    trials = json.loads((RESULTS / study / "trials.json").read_text())
    times = [(row["seconds"]["total"], row["baseline"]) for row in trials]
    told = state(len(times))
    third = -(-len(times) // 3)
    for number, (seconds, baseline) in enumerate(times[:third]):
        told.take(ended(number, seconds, baseline))
    left = sum(seconds for seconds, _ in times[third:])
    assert seconds_of(told.left) == pytest.approx(left, rel=0.25)


def test_several_at_a_time_take_so_much_less() -> None:
    told = state(12, workers=3)
    for number in range(6):
        told.take(ended(number, 30.0))
    assert told.left == "1:00"


def test_what_is_restored_says_nothing_of_the_pace() -> None:
    told = state(12)
    for number in range(6):
        told.take(ended(number, 0.1, restored=True))
    assert told.left == "…"
    told.take(ended(6, 10.0))
    assert told.left == "0:50"


@pytest.mark.parametrize("stages", [[], ["training base", "training math"]])
def test_the_zoo_being_made_is_told_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stages: list[str]
) -> None:
    def make(config: str, progress: Callable[[str, int, int], None]) -> None:
        for stage in stages:
            progress(stage, 0, 10)
        raise SkillError("made")  # it is enough

    monkeypatch.setattr(opening, "make_known", make)
    with pytest.raises(SkillError, match="made"):
        opening.open_config("zoo", study=None, seed=None, engine=None)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("making the zoo, once: minutes\n") == bool(stages)
