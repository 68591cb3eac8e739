"""Storages: any Optuna URL, failures that are explained, passwords that are not shown."""

from pathlib import Path

import optuna
import pytest
import sqlalchemy

from automerge.errors import StudyError
from automerge.study.folder import StudyFolder, write_atomically
from automerge.study.jobs import Budget
from automerge.study.records import study_rows
from automerge.study.session import run_search
from automerge.study.store import open_study, storage_failures
from tests.study.worlds import plan_of, scripted


def test_a_study_lives_in_the_storage_that_is_named(world: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    folder = StudyFolder(tmp_path / "out")
    run_search(plan_of(world), folder, Budget(trials=9), lambda e: None, storage=url, start=lambda *_: scripted())
    assert len(study_rows(open_study("world", url))) == 9
    assert not (folder.path / "study.db").exists()
    assert folder.answers.exists()


def test_a_storage_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/study.db"
    with pytest.raises(StudyError, match="cannot be opened"):
        open_study("world", url, objectives=1)
    with pytest.raises(StudyError) as error:
        open_study("world", "nosuchdb://user:hunter2@localhost/x", objectives=1)
    assert "hunter2" not in str(error.value)


def test_an_unknown_study_is_refused(tmp_path: Path) -> None:
    open_study("one", f"sqlite:///{tmp_path}/study.db", objectives=1)
    with pytest.raises(StudyError, match="no study 'two'"):
        open_study("two", f"sqlite:///{tmp_path}/study.db")


def test_a_storage_that_fails_in_use_is_explained() -> None:
    with pytest.raises(StudyError, match="disk is full") as error, storage_failures("sqlite:///study.db"):
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))
    assert error.value.hint is not None


def test_sqlite_storages_write_ahead(tmp_path: Path) -> None:
    open_study("one", f"sqlite:///{tmp_path}/study.db", objectives=1)
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/study.db")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()


def test_a_start_that_ends_before_any_write_does_no_harm(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def opened(url: str, statements: int) -> bool:
        left = iter(range(statements))

        def count(connection: object, cursor: object, statement: str, *_: object) -> None:
            reads = statement.startswith(("SELECT", "PRAGMA"))  # before a read is before the next write
            if not reads and next(left, None) is None:
                raise Killed

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
        try:
            open_study("one", url, objectives=1)
        except Killed:
            return False
        finally:
            sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)
        return True

    statements, whole = 0, False
    while not whole:
        url = f"sqlite:///{tmp_path}/{statements}.db"
        whole = opened(url, statements)
        for _ in range(2):
            study = open_study("one", url, objectives=1)
        assert [found.study_name for found in optuna.get_all_study_summaries(study._storage)] == ["one"], statements
        assert len(study.directions) == 1
        statements += 1
    assert statements > 15  # tables, indexes, versions and the study itself


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", "one")
    write_atomically(tmp_path / "a.json", "two")
    assert (tmp_path / "a.json").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(StudyError, match="cannot be written"):
        write_atomically(tmp_path / "none" / "a.json", "three")
