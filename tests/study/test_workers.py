"""Several engines at a time: every candidate once, the budget exact, nothing left behind when one is killed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automerge.engine.fake import FakeEngine
from automerge.errors import AutomergeError, EngineError, EngineLost, MergeError
from automerge.study.crew import run_jobs
from automerge.study.events import Block, Ended, Event
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import study_rows
from automerge.study.session import run_search
from automerge.study.store import open_study
from tests.study.worlds import answer, logprobs, plan_of, scripted


class Slow(FakeEngine):
    """Takes its time, so that several run beside each other."""

    def apply(self, recipe):  # type: ignore[no-untyped-def]
        time.sleep(0.02)
        return super().apply(recipe)


def test_every_candidate_is_tried_once_and_the_budget_is_exact(world: Path, tmp_path: Path) -> None:
    engines: list[Slow] = []

    def start(plan: object, share: object) -> Slow:
        engines.append(Slow(answer, logprobs))
        return engines[-1]

    ended: list[Ended] = []
    folder = StudyFolder(tmp_path / "out")
    verdict = run_search(
        plan_of(world),
        folder,
        Budget(trials=30),
        lambda event: ended.append(event) if isinstance(event, Ended) else None,
        workers=3,
        start=start,
    )
    rows = study_rows(open_study("world", folder.storage))
    assert [row.state for row in rows] == ["complete"] * 30
    assert sorted(event.row.label for event in ended) == sorted(row.label for row in rows)
    assert verdict.outcome == "PROMOTED"
    assert len(engines) == 3 and all(engine.closed for engine in engines)
    applied = [sum(method == "apply" for method, _ in engine.calls) for engine in engines]
    assert sum(applied) == 30 + 3 + 8 and min(applied) > 5  # candidates, and what was proven


def test_a_study_goes_on_with_another_number_of_workers(world: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    for trials, workers in ((10, 1), (16, 3), (20, 2)):
        run_search(
            plan_of(world), folder, Budget(trials=trials), lambda e: None, workers=workers, start=lambda *_: scripted()
        )
    assert [row.state for row in study_rows(open_study("world", folder.storage))] == ["complete"] * 20


def test_a_lost_engine_costs_no_candidate(world: Path, tmp_path: Path) -> None:
    def start(plan: object, share: object) -> FakeEngine:
        return FakeEngine(answer, logprobs, fail={7: EngineLost("killed"), 40: MergeError("not finite")})

    folder = StudyFolder(tmp_path / "out")
    run_search(plan_of(world), folder, Budget(trials=20), lambda e: None, workers=2, start=start)
    states = [row.state for row in study_rows(open_study("world", folder.storage))]
    assert len(states) == 20 and set(states) <= {"complete", "failed"} and states.count("failed") <= 2


def test_one_that_loses_the_engine_twice_is_counted_as_failed_and_the_study_goes_on(
    world: Path, tmp_path: Path
) -> None:
    lost = EngineLost("killed")
    engine = FakeEngine(answer, logprobs, fail={40: lost, 41: lost})  # 41: the candidate of 40 is merged again
    folder = StudyFolder(tmp_path / "out")
    run_search(plan_of(world), folder, Budget(trials=20), lambda e: None, start=lambda *_: engine)
    rows = study_rows(open_study("world", folder.storage))
    assert [row.state for row in rows].count("failed") == 1 and len(rows) == 20
    assert [row.record.error for row in rows if row.state == "failed" and row.record] == ["killed"]
    assert engine.calls[41][0] == "apply"


def test_an_error_in_one_worker_ends_all_and_the_same_command_goes_on(world: Path, tmp_path: Path) -> None:
    engines: list[FakeEngine] = []

    def start(plan: object, share: object) -> FakeEngine:
        engines.append(Slow(answer, logprobs, fail={20: EngineError("gone")}))
        return engines[-1]

    folder = StudyFolder(tmp_path / "out")
    with pytest.raises(EngineError):
        run_search(plan_of(world), folder, Budget(trials=20), lambda e: None, workers=3, start=start)
    assert all(engine.closed for engine in engines)
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name and not thread.daemon][3:]
    run_search(plan_of(world), folder, Budget(trials=20), lambda e: None, workers=3, start=lambda *_: scripted())
    assert [row.state for row in study_rows(open_study("world", folder.storage))] == ["complete"] * 20


def test_an_interrupt_in_one_worker_ends_all(world: Path, tmp_path: Path) -> None:
    left = 25

    def listen(event: Event) -> None:
        nonlocal left
        if isinstance(event, Block):
            left -= 1
            if left <= 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(
            plan_of(world),
            StudyFolder(tmp_path / "o"),
            Budget(trials=20),
            listen,
            workers=3,
            start=lambda *_: scripted(),
        )


def test_more_workers_than_the_machine_has_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(AutomergeError, match="workers"):
        run_search(plan_of(world), StudyFolder(tmp_path / "o"), Budget(trials=9), lambda e: None, workers=4096)


def test_jobs_end_in_their_own_order_and_none_waits_for_the_slowest() -> None:
    finished: list[int] = []

    def jobs() -> Iterator[int]:
        yield from range(8)

    def work(job: int) -> None:
        time.sleep(0.5 if job == 0 else 0.01)

    run_jobs(jobs(), lambda job, running: True, work, finished.append, 2)
    assert finished[-1] == 0 and sorted(finished) == list(range(8))


def test_a_job_that_is_not_ready_waits_for_one_that_runs() -> None:
    finished: list[int] = []
    run_jobs(iter(range(4)), lambda job, running: job == 0 or 0 in finished, lambda job: None, finished.append, 3)
    assert finished[0] == 0 and sorted(finished) == [0, 1, 2, 3]


def test_real_engines_in_processes_of_their_own_survive_a_kill(world: Path, tmp_path: Path) -> None:
    """Two transformers engines; one is killed while it works, and nothing is lost, doubled or left."""
    skill = world.parent / "skill.yaml"
    skill.write_text(skill.read_text() + "sampling: {max_tokens: 4}\n")
    plan = plan_of(world)
    pids: set[int] = set()
    killed = threading.Event()

    def listen(event: Event) -> None:
        pids.update(children())
        if isinstance(event, Block) and len(pids) >= 2 and not killed.is_set():
            killed.set()
            os.kill(min(pids), signal.SIGKILL)

    folder = StudyFolder(tmp_path / "out")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    run_search(plan, folder, Budget(trials=12), listen, workers=2)
    rows = study_rows(open_study("world", folder.storage))
    assert killed.is_set()
    assert [row.state for row in rows] == ["complete"] * 12
    assert not children()


def children() -> set[int]:
    """The engine processes of this one that live."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes()
            stat = (folder / "stat").read_text().rsplit(") ", 1)[1].split()
        except (OSError, IndexError):
            continue
        if b"automerge.engine.remote_host" in line and int(stat[1]) == os.getpid() and stat[0] != "Z":
            found.add(int(folder.name))
    return found


def test_the_next_job_is_made_while_the_others_run() -> None:
    """No engine waits for a proposal: when one of two ends, its next job is there."""
    made: list[int] = []
    running = threading.Event()

    def jobs() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            yield number

    def ready(job: int, others: object) -> bool:
        if job == 1:
            threading.Thread(target=lambda: wait_for(lambda: len(made) == 3, running)).start()
        return True

    def wait_for(met: Callable[[], bool], told: threading.Event) -> None:
        for _ in range(3000):
            if met():
                told.set()
                return
            time.sleep(0.01)

    def hold(job: int) -> None:
        assert running.wait(30)  # until a third job was made, though two run

    run_jobs(jobs(), ready, hold, lambda job: None, 2)
    assert made == [0, 1, 2, 3]
