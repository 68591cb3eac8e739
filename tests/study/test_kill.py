"""Real processes, really killed: the same command again ends where an uninterrupted one would have ended."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from automerge.study.folder import StudyFolder
from automerge.study.records import study_rows
from automerge.study.store import open_study
from tests.cli.world import BLOCKS, TIMEOUT, environment, make_models, make_world

ROOT = Path(__file__).parents[2]
BUDGET = 12


@dataclass(frozen=True)
class Place:
    """One study: its config, its folder, the engine's log and where its processes print."""

    folder: Path
    config: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> Path:
        return self.folder / "engine.log"

    @property
    def printed(self) -> Path:
        return self.folder / "printed.txt"

    def start(self, *, hold: int = 0) -> "subprocess.Popen[bytes]":
        """`automerge search` in a process of its own; it prints into `printed`."""
        command = [sys.executable, "-m", "tests.cli.logged", "search", str(self.config)]
        command += ["--budget", str(BUDGET), "--out", str(self.out)]
        more = {"AUTOMERGE_TEST_LOG": str(self.log), "AUTOMERGE_TEST_HOLD": str(hold), "PYTHONPATH": str(ROOT)}
        more["AUTOMERGE_CACHE"] = str(self.folder.parent / "cache")
        with self.printed.open("wb") as file:
            return subprocess.Popen(command, cwd=self.folder, env=environment(**more), stdout=file, stderr=file)

    def finish(self) -> int:
        """Runs to the end; the exit code."""
        process = self.start()
        try:
            return process.wait(TIMEOUT)
        finally:
            process.kill()

    def blocks(self) -> list[str]:
        """Every block the engine was asked, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@dataclass(frozen=True)
class End:
    """All that must not depend on interruptions."""

    trials: list[tuple[object, ...]]
    verdict: dict[str, object]
    answers: list[tuple[object, ...]]
    scores: list[tuple[object, ...]]


def end_of(place: Place) -> End:
    folder = StudyFolder(place.out)
    rows = study_rows(open_study("world", folder.storage))
    trials = [(r.number, r.label, r.state, dict(r.params), r.value, r.record and r.record.checksum) for r in rows]
    with closing(sqlite3.connect(folder.answers)) as database:
        answers = database.execute("SELECT key, checksum, prompt, answer FROM answers ORDER BY key").fetchall()
        scores = database.execute("SELECT answer, scorer, skill, item, value FROM scores ORDER BY 1, 2, 3, 4")
        return End(trials, json.loads(folder.verdict.read_text()), answers, scores.fetchall())


def wait_for(happened: Callable[[], bool], process: "subprocess.Popen[bytes]", place: Place) -> None:
    """Until it has happened, or the process has ended. Fails where neither comes."""
    deadline = time.monotonic() + TIMEOUT
    while not happened() and process.poll() is None:
        assert time.monotonic() < deadline, place.printed.read_text()
        time.sleep(0.002)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("kill") / "models").parent


def place_in(shared: Path, name: str) -> Place:
    # A wide space: base, sources and averages are trials; the two DARE baselines stand apart.
    return Place(shared / name, make_world(shared / name, shared / "models", racing=True))


@pytest.fixture(scope="module")
def whole(shared: Path) -> tuple[End, list[str]]:
    """How the study ends, and what the engine is asked, when nothing happens."""
    place = place_in(shared, "whole")
    assert place.finish() in (0, 3), place.printed.read_text()
    return end_of(place), place.blocks()


def test_uninterrupted_every_block_is_asked_once(whole: tuple[End, list[str]]) -> None:
    end, blocks = whole
    assert len(end.trials) == BUDGET
    assert len(blocks) == len(set(blocks))
    judged = {row["name"] for row in end.verdict["rows"]}  # type: ignore[attr-defined]
    assert len(blocks) <= BUDGET * BLOCKS["search"] + len(judged) * BLOCKS["held_out"]
    assert len(blocks) > 100


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(seed, 30, marks=pytest.mark.full) for seed in (1, 2))]
)
def test_killed_at_any_moment(shared: Path, whole: tuple[End, list[str]], seed: int, kills: int) -> None:
    uninterrupted, every_block = whole
    place = place_in(shared, f"killed-{seed}")
    chance = random.Random(seed)
    moments = sorted(chance.randrange(len(every_block)) for _ in range(kills))
    killed = 0
    about = place.out / "study.json"  # written anew each time the study is opened, before the engine is started
    for index, moment in enumerate(moments):
        before = about.stat().st_mtime_ns if about.exists() else 0
        process = place.start()
        if index == 0:  # while the study is being made
            wait_for((place.out / "study.db").exists, process, place)
            time.sleep(chance.random() * 0.2)
        elif index < kills // 3:  # while it is being opened again
            wait_for(lambda t=before: about.exists() and about.stat().st_mtime_ns != t, process, place)  # type: ignore[misc]
            time.sleep(chance.random() * 0.1)
        else:
            wanted = max(moment, len(set(place.blocks())))
            wait_for(lambda wanted=wanted: len(set(place.blocks())) > wanted, process, place)  # type: ignore[misc]
            time.sleep(chance.random() * 0.05)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed > kills // 2  # the last moments may come after the end; then nothing is left to kill
    assert place.finish() in (0, 3), place.printed.read_text()
    assert end_of(place) == uninterrupted
    assert set(place.blocks()) == set(every_block)
    assert len(place.blocks()) - len(every_block) <= killed


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_asked_to_stop(shared: Path, whole: tuple[End, list[str]], number: signal.Signals) -> None:
    place = place_in(shared, number.name)
    process = place.start(hold=30)
    wait_for(lambda: len(place.blocks()) == 30, process, place)
    process.send_signal(number)
    wait_for(lambda: "Stopping after this block" in place.printed.read_text(), process, place)
    assert process.poll() is None  # the block in the engine is not lost
    place.log.with_suffix(".go").touch()
    assert process.wait(TIMEOUT) == 130
    printed = place.printed.read_text()
    assert f"search {place.config} --budget {BUDGET} --out {place.out}" in " ".join(printed.split())
    assert "Traceback" not in printed
    assert len(place.blocks()) == 30

    assert place.finish() in (0, 3)
    assert end_of(place) == whole[0]
    assert len(place.blocks()) == len(set(place.blocks()))  # nothing was asked twice


def test_asked_twice_it_stops_at_once(shared: Path, whole: tuple[End, list[str]]) -> None:
    place = place_in(shared, "twice")
    process = place.start(hold=30)  # and nothing lets this block go
    wait_for(lambda: len(place.blocks()) == 30, process, place)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "Stopping after this block" in place.printed.read_text(), process, place)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 130
    assert "Traceback" not in place.printed.read_text()
    assert place.finish() in (0, 3)
    assert end_of(place) == whole[0]
    assert len(place.blocks()) - len(set(place.blocks())) == 1
