"""Several drivers share a study on a real PostgreSQL or MariaDB: nothing is tried twice, or lost with a driver."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from automerge.errors import StudyError
from automerge.study.drivers import Several, drivers_of
from automerge.study.records import study_rows
from automerge.study.store import open_study
from tests import mariadb, postgres
from tests.cli.world import BLOCKS, TIMEOUT, environment, make_models, make_world

ROOT = Path(__file__).parents[2]
BUDGET = 14


Server = postgres.Server | mariadb.Server

on_each_server = pytest.mark.parametrize(
    "serve",
    [
        pytest.param(postgres.server, marks=pytest.mark.skipif(not postgres.binaries(), reason=postgres.NONE)),
        pytest.param(
            mariadb.server,
            marks=[pytest.mark.full, pytest.mark.skipif(not mariadb.binary(), reason=mariadb.NONE)],
        ),
    ],
    ids=["postgresql", "mariadb"],
    scope="module",
    indirect=True,
)


@pytest.fixture(scope="module")
def serve(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[Server]]:
    """Starts a server."""
    made: Callable[[], AbstractContextManager[Server]] = request.param
    return made


@pytest.fixture(scope="module")
def database(serve: Callable[[], AbstractContextManager[Server]]) -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("drivers") / "models")


@dataclass
class Driver:
    """`automerge search` in a process and a folder of its own, as on a machine of its own."""

    folder: Path
    config: Path
    url: str
    processes: "list[subprocess.Popen[bytes]]"  # all there ever were

    def start(self, hold: int = 0) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.cli.logged", "search", str(self.config), "--budget", str(BUDGET)]
        command += ["--out", str(self.folder / "out"), "--storage", self.url]
        more = {"AUTOMERGE_TEST_LOG": str(self.folder / "log"), "AUTOMERGE_TEST_HOLD": str(hold)}
        more |= {"PYTHONPATH": str(ROOT), "AUTOMERGE_CACHE": str(self.config.parent.parent / "cache")}
        with (self.folder / "printed").open("ab") as file:
            process = subprocess.Popen(command, cwd=self.folder, env=environment(**more), stdout=file, stderr=file)
        self.processes.append(process)
        return process

    def blocks(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def printed(self) -> str:
        return (self.folder / "printed").read_text()


MakeDrivers = Callable[[int, str], list[Driver]]


@pytest.fixture
def drivers(models: Path, tmp_path: Path) -> Iterator[MakeDrivers]:
    """So many, on the storage of that URL. None outlives the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def make(count: int, url: str) -> list[Driver]:
        config = make_world(tmp_path / "world", models, low=0.3, racing=True)
        folders = [tmp_path / str(number) for number in range(count)]
        for folder in folders:
            folder.mkdir()
        return [Driver(folder, config, url, processes) for folder in folders]

    yield make
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def url(database: Server) -> str:
    """A database of a test's own."""
    return database.database(f"test{time.monotonic_ns()}")


def close(study: optuna.Study) -> None:
    """Ends its session on the server."""
    study._storage._backend.engine.dispose()


def ended(process: "subprocess.Popen[bytes]", driver: Driver) -> int:
    try:
        return process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(driver.printed())


def once_each(driver: Driver, others: list[Driver], url: str, kills: int = 0) -> None:
    """Every candidate ended, once; none was asked by two drivers but the gates' references, and one a kill."""
    study = open_study("world", url)
    rows, trials = study_rows(study), study.trials
    close(study)
    assert sum(row.finished for row in rows) == len(rows) == BUDGET
    assert len({row.label for row in rows}) == BUDGET
    assert [row.number for row in rows if row.number is not None] == list(range(len(trials)))
    base = next(row.record.checksum for row in rows if row.label == "base" and row.record)
    asked = [{line for line in each.blocks() if not line.startswith(base)} for each in (driver, *others)]
    searched = {row.record.checksum for row in rows if row.record}
    proven = Counter(line.split()[0] for lines in asked for line in lines)
    limit = BLOCKS["search"] + BLOCKS["held_out"]
    assert sum(count > limit for name, count in proven.items() if name in searched) <= kills


@on_each_server
def test_two_drivers_share_the_trials_and_the_verdict(drivers: MakeDrivers, url: str) -> None:
    first, second = drivers(2, url)
    processes = [(driver.start(hold=4), driver) for driver in (first, second)]
    deadline = time.monotonic() + TIMEOUT
    while min(len(first.blocks()), len(second.blocks())) < 4:  # the faster waits until both are at work
        assert time.monotonic() < deadline, first.printed() + second.printed()
        time.sleep(0.01)
    for driver in (first, second):
        (driver.folder / "log.go").touch()
    codes = [ended(process, driver) for process, driver in processes]
    assert codes[0] == codes[1] and codes[0] in (0, 3), first.printed() + second.printed()
    once_each(first, [second], url)
    verdicts = [(driver.folder / "out" / "verdict.json").read_text() for driver in (first, second)]
    assert verdicts[0] == verdicts[1]
    asked = [{line.split()[0] for line in driver.blocks()} for driver in (first, second)]
    assert min(map(len, asked)) >= 3  # both worked


@on_each_server
@pytest.mark.parametrize(("seed", "kills"), [(0, 3), pytest.param(1, 30, marks=pytest.mark.full)])
def test_what_a_killed_driver_had_begun_is_taken_up(drivers: MakeDrivers, url: str, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    first, second = drivers(2, url)
    steady = first.start()
    killed = 0
    for _ in range(kills):
        victim = second.start()
        before = len(second.blocks())
        wanted = before + chance.randrange(8)
        deadline = time.monotonic() + TIMEOUT
        while len(second.blocks()) <= wanted and victim.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        victim.kill()
        killed += victim.wait() == -signal.SIGKILL
    assert killed
    assert ended(steady, first) in (0, 3), first.printed()
    once_each(first, [second], url, killed)


@on_each_server
def test_a_lost_connection_ends_with_a_word_and_the_study_goes_on(
    drivers: MakeDrivers, serve: Callable[[], AbstractContextManager[Server]]
) -> None:
    with serve() as own:
        url = own.database("lost")
        (driver,) = drivers(1, url)
        process = driver.start(hold=30)
        deadline = time.monotonic() + TIMEOUT
        while len(driver.blocks()) < 30:
            assert process.poll() is None and time.monotonic() < deadline, driver.printed()
            time.sleep(0.01)
        own.stop("immediate")
        (driver.folder / "log.go").touch()
        assert ended(process, driver) == 1
        assert "the storage failed" in driver.printed() and "Traceback" not in driver.printed()
        own.start()
        assert ended(driver.start(), driver) in (0, 3), driver.printed()
        once_each(driver, [], url)
        assert len(driver.blocks()) - len(set(driver.blocks())) <= 1


@on_each_server
def test_a_driver_is_gone_with_its_session(url: str) -> None:
    with drivers_of(open_study("s", url, objectives=1)) as other:
        with drivers_of(open_study("s", url)) as one:
            assert one.shared and other.shared
            assert not other.is_gone(one.name) and not one.is_gone(one.name) and other.is_gone(None)
            assert not other.is_gone(one.name)  # to look does not take the lock
        deadline = time.monotonic() + 10
        while not other.is_gone(one.name):
            assert time.monotonic() < deadline
        assert other.is_gone("somebody else's")


@on_each_server
def test_one_decides_at_a_time(url: str) -> None:
    close(open_study("s", url, objectives=1))
    inside: list[int] = []
    most: list[int] = []

    def decide(number: int) -> None:
        with drivers_of(open_study("s", url)) as mine:
            for _ in range(10):
                with mine.holding("deciding"):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.002)
                    inside.remove(number)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40 and max(most) == 1


@on_each_server
def test_tables_left_half_made_are_made_whole(url: str) -> None:
    engine = optuna.storages.RDBStorage(url).engine
    on = " ON studies" if engine.name == "mysql" else ""
    with engine.begin() as connection:  # as a kill leaves them on a server that makes tables one by one
        connection.execute(sqlalchemy.text(f"DROP INDEX ix_studies_study_name{on}"))
    engine.dispose()
    for _ in range(2):
        study = open_study("s", url, objectives=1)
        assert [found.study_name for found in optuna.get_all_study_summaries(study._storage)] == ["s"]
        close(study)


def test_sqlite_has_one_driver(tmp_path: Path) -> None:
    study = open_study("s", f"sqlite:///{tmp_path / 's.db'}", objectives=1)
    with drivers_of(study) as alone:
        assert not alone.shared
    with pytest.raises(StudyError, match="cannot share"):
        Several(study._storage._backend.engine, "s")
