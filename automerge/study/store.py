"""The Optuna side of a study: opening it, its attributes, and refusing to go on with something else."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import RDBStorage

from automerge.errors import StudyError, StudyMismatch
from automerge.study.drivers import CLAIM, OWNER

RECORD, BASELINE, START = "record", "baseline", "start"  # user attributes of a trial
IDENTITY, VERDICTS = "identity", "verdicts"  # user attributes of a study
SAMPLER, STARTS = "sampler", "starts"  # and, of a study, who proposes, and from where
TRIES = 3  # at making tables that somebody else makes at the same time
SERVERS = ("postgresql", "mysql", "mariadb")  # storages that several drivers can share
ENGINE = ("config.engine.", "engine.")  # keys of a study's identity
OUTSIDE = "baseline:"  # and, of baselines outside the space: baseline:<place in the order>:<name>


def open_study(name: str, url: str, *, objectives: int = 0) -> optuna.Study:
    """The study of that name in any Optuna storage, made with so many objectives, all to be maximised, where that is
    not 0. Raises StudyError where it cannot be reached, or is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = _storage(url, make=objectives > 0)
        if objectives:
            directions = ["maximize"] * objectives
            return optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError as error:
        raise StudyError(f"no study {name!r} in this storage", where=public_url(url)) from error
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        hint = "Is the server up, the URL right, the file sound? A damaged study.db may be moved away."
        if "readonly" in reason:
            hint = "SQLite writes beside a file even to read it. Copy the study's folder to where you may write."
        raise StudyError(f"the storage cannot be opened: {reason}", where=public_url(url), hint=hint) from error


@contextmanager
def storage_failures(url: str) -> Iterator[None]:
    """Turns what a storage raises when it fails in use (disk full, connection lost) into StudyError."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StudyError(
            f"the storage failed: {reason}",
            where=public_url(url),
            hint="What was scored is kept; run the command again.",
        ) from error


def _storage(url: str, *, make: bool) -> "RDBStorage | str":
    if url.startswith(SERVERS):
        if make:
            _make_tables(url)
        # One session, for drivers.py: its locks and Optuna's writes live and die together.
        one = {"pool_size": 1, "max_overflow": 0}
        return RDBStorage(url, engine_kwargs=one, skip_compatibility_check=True, skip_table_creation=True)
    if not url.startswith("sqlite"):
        return url
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    with storage.engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
    if make:
        _keep_names_unique(storage.engine)
    return storage


def _make_tables(url: str) -> None:
    """Makes or checks Optuna's tables, for which it takes several sessions. Another process may be at it too."""
    for attempt in range(TRIES):
        try:
            storage = RDBStorage(url)
            try:
                _keep_names_unique(storage.engine)
            finally:
                storage.engine.dispose()
            return
        except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.OperationalError):
            if attempt == TRIES - 1:
                raise
            time.sleep(1.0)


def _keep_names_unique(engine: sqlalchemy.Engine) -> None:
    """Makes the index that keeps studies' names unique, where a kill came between Optuna's table and its index: a table
    that is there is not given its index later, and each start would add a study of the same name."""
    studies = sqlalchemy.Table("studies", sqlalchemy.MetaData(), autoload_with=engine)
    sqlalchemy.Index("ix_studies_study_name", studies.c.study_name, unique=True).create(engine, checkfirst=True)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite storage; None for any other, and for one in memory."""
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return None
    sqlite = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)).absolute() if sqlite else None


def public_url(url: str) -> str:
    """The URL without its password, and without its options, which may hold one too."""
    try:
        return sqlalchemy.engine.make_url(url).set(query={}).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return url.partition("@")[2] or url.partition("?")[0]


def hold_identity(study: optuna.Study, identity: Mapping[str, str]) -> None:
    """Notes what the study is about; raises StudyMismatch, listing each difference, where it was about something else.

    Keys not seen before are added, so that what is known only later (the engine) can be held later. Another engine is
    taken as long as none served a candidate: where one cannot, another, or other settings of it, is what helps.
    """
    text = study.user_attrs.get(IDENTITY)
    held: dict[str, str] = json.loads(text) if text else {}
    groups = {key.split(".")[0] for key in identity}
    keys = sorted({*identity, *(key for key in held if key.split(".")[0] in groups)})
    if not any(key.split(".")[0] in groups for key in held):
        study.set_user_attr(IDENTITY, json.dumps({**held, **identity}, sort_keys=True))
        return
    missing = "(absent)"
    pairs = [(key, held.get(key, missing), identity.get(key, missing)) for key in keys]
    differences = [pair for pair in pairs if pair[1] != pair[2]]
    if differences and not _tried(study) and all(key.startswith(ENGINE) for key, _, _ in differences):
        others = {key: text for key, text in held.items() if key.split(".")[0] not in groups}
        study.set_user_attr(IDENTITY, json.dumps({**others, **identity}, sort_keys=True))
        return
    if differences:
        lines = "".join(f"\n  {key}: {then} → {now}" for key, then, now in differences)
        raise StudyMismatch(
            f"the study {study.study_name!r} was started with other settings (then → now):{lines}",
            differences,
            hint="Undo the change to go on with it, or start another study with --study NAME.",
        )


def _tried(study: optuna.Study) -> bool:
    """Whether a candidate has ended, or another driver may be at one."""
    trials = study.get_trials(deepcopy=False)
    return any(trial.state.is_finished() or OWNER in trial.user_attrs for trial in trials) or any(
        key.startswith((OUTSIDE, CLAIM)) for key in study.user_attrs
    )
