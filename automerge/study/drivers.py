"""Who drives a study: one process that holds its folder, or several, on any machines, that share a database server.

Among several, one at a time decides what comes next: it takes in what the others finished, claims a trial and writes
its own name on it. A driver's name is a lock that its session on the server holds. A session ends with its process or
its connection, and what it had claimed is then taken up by another, in place, under the same trial number. Before a
driver ends a trial it looks whether the trial is still its own. Locks belong to the session that Optuna's own reads
and writes go through, so one that has lost its locks cannot write either.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import optuna
import sqlalchemy
from sqlalchemy import Engine, text

from automerge.errors import StudyError

OWNER = "owner"  # of a trial: who tries it
CLAIM = "claim:"  # of a study: who tries a baseline that is no trial
YEAR = 365 * 24 * 3600  # seconds
DECIDING, PROVING = "deciding", "proving"  # locks


class Drivers(Protocol):
    """What a driver knows of the others."""

    shared: bool  # whether there may be others
    name: str

    def holding(self, lock: str) -> AbstractContextManager[None]:
        """A context in which no other driver of the study holds the lock of that name."""
        ...

    def is_gone(self, name: str | None) -> bool:
        """Whether the driver of that name will not come back; nobody is gone too."""
        ...


class Alone:
    """The only driver: whoever began a trial is gone."""

    shared = False
    name = ""

    @contextmanager
    def holding(self, lock: str) -> Iterator[None]:
        yield

    def is_gone(self, name: str | None) -> bool:
        return True


@dataclass(frozen=True)
class _Dialect:
    """SQL of a server. A lock is taken for the session, and named by `:lock`."""

    take: str
    release: str
    try_take: str  # 1 or true where it could be had
    begin: tuple[str, ...] = ()


_DIALECTS = {
    "postgresql": _Dialect(
        "SELECT pg_advisory_lock(:lock)",
        "SELECT pg_advisory_unlock(:lock)",
        "SELECT pg_try_advisory_lock(:lock)",
        # A machine that vanished is noticed in a minute, not in two hours.
        ("SET tcp_keepalives_idle = 30", "SET tcp_keepalives_interval = 10", "SET tcp_keepalives_count = 3"),
    ),
    "mysql": _Dialect(
        f"SELECT GET_LOCK(:lock, {YEAR})",
        "SELECT RELEASE_LOCK(:lock)",
        "SELECT GET_LOCK(:lock, 0)",
        (f"SET SESSION wait_timeout = {YEAR}",),  # of silence while a candidate is tried; 8 hours otherwise
    ),
}
_DIALECTS["mariadb"] = _DIALECTS["mysql"]


class Several:
    """One of several drivers. `engine` has a single session, which Optuna uses as well."""

    shared = True

    def __init__(self, engine: Engine, study: str) -> None:
        """Raises StudyError where this server's locks are not known."""
        known = _DIALECTS.get(engine.dialect.name)
        if known is None:
            hint = "Use PostgreSQL, MySQL or MariaDB; or one driver with SQLite."
            raise StudyError(f"drivers cannot share a storage of {engine.dialect.name}", hint=hint)
        self._engine, self._study, self._sql = engine, study, known
        self.name = secrets.token_hex(8)
        for statement in known.begin:
            self._ask(statement)
        self._ask(known.take, self.name)

    @contextmanager
    def holding(self, lock: str) -> Iterator[None]:
        self._ask(self._sql.take, lock)
        try:
            yield
        finally:
            with suppress(sqlalchemy.exc.SQLAlchemyError):  # a lost session has no locks
                self._ask(self._sql.release, lock)

    def is_gone(self, name: str | None) -> bool:
        if name == self.name:
            return False
        if name is None or not self._ask(self._sql.try_take, name):
            return name is None
        self._ask(self._sql.release, name)
        return True

    def _ask(self, statement: str, lock: str | None = None) -> object:
        values = {} if lock is None else {"lock": self._key(lock)}
        with self._engine.connect() as session:
            found = session.execute(text(statement), values)
            value = found.scalar() if found.returns_rows else None
            session.commit()
        return value

    def _key(self, lock: str) -> int | str:
        digest = hashlib.sha256(json.dumps([self._study, lock]).encode()).digest()
        if self._engine.dialect.name == "postgresql":
            return int.from_bytes(digest[:8], "big", signed=True)
        return f"automerge {digest.hex()[:32]}"


@contextmanager
def drivers_of(study: optuna.Study) -> Iterator[Drivers]:
    """Several where the study lies on a database server, else alone. At its end the session is closed, so that what is
    left may be taken up. Raises StudyError."""
    storage = study._storage
    engine: Engine | None = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is None or engine.dialect.name == "sqlite":
        yield Alone()
        return
    try:
        yield Several(engine, study.study_name)
    finally:
        engine.dispose()
