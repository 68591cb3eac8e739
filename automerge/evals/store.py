"""Every answer and every score, in one SQLite file. It knows no engine, no scorer and no study.

    answers   what a model with given weights (checksum) said to a given prompt: written once, never changed
    scores    what a scorer made of an answer, for an item of a skill
    judged    what a judge said to a prompt: kept for ever, whatever is made of it
    models    what those who asked called the weights

One call of `write` is one transaction: after a kill, or a power cut, a block is there whole or not at all.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from automerge.errors import StudyError
from automerge.evals.scorers.base import Answer
from automerge.evals.stored import Scored, Stored, parse_answer, shown_answer
from automerge.records import ItemResult, Score

APPLICATION_ID = 0x41_4D_41_53  # in the file's header: "AMAS", an automerge answer store
FORMAT = 1
BUSY_SECONDS = 60.0  # how long to wait for another process's transaction
_CHUNK = 500  # keys a query; SQLite's limit of variables is higher everywhere

_SCHEMA = """
CREATE TABLE answers (
    key BLOB PRIMARY KEY,      -- sha256 of checksum and question
    checksum TEXT NOT NULL,
    kind TEXT NOT NULL,        -- generate or loglikelihood
    prompt TEXT NOT NULL,
    continuation TEXT,         -- of a loglikelihood
    answer TEXT NOT NULL,      -- JSON of records.Completion or records.LogLikelihood
    tokens INTEGER NOT NULL,   -- generated
    seconds REAL NOT NULL      -- this answer's share of its block
) WITHOUT ROWID;
CREATE TABLE scores (
    answer BLOB NOT NULL REFERENCES answers (key),
    scorer BLOB NOT NULL,      -- sha256 of scorer, parameters and target
    skill TEXT NOT NULL,
    item TEXT NOT NULL,
    value REAL,                -- NULL: unscored
    detail TEXT NOT NULL,
    PRIMARY KEY (answer, scorer, skill, item)
);
CREATE INDEX scores_by_skill ON scores (skill, item);
CREATE INDEX answers_by_checksum ON answers (checksum);
"""

# Made where they are missing: files of this format are older than they.
_LATER = (
    """
CREATE TABLE IF NOT EXISTS judged (
    key BLOB PRIMARY KEY,      -- sha256 of judge, prompt and parameters
    judge TEXT NOT NULL,
    words TEXT NOT NULL
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS models (
    checksum TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (checksum, name)
) WITHOUT ROWID
""",
)


class AnswerStore:
    """The open file. One process may hold several, and processes share a file; each is for one thread at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens or creates the file; None keeps everything in memory. Raises StudyError where it is not ours."""
        self.path = path
        self.where = str(path) if path is not None else "answers in memory"
        with self._explained():
            self._db = sqlite3.connect(
                path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._open()
        except StudyError:
            self._db.close()
            raise

    def _open(self) -> None:
        # Tables first: another process may create both, in one transaction, between the two questions.
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = self._db.execute("PRAGMA application_id").fetchone()[0]
        if found != APPLICATION_ID and (found != 0 or tables):
            raise StudyError("a database, but not one of automerge's answer stores", where=self.where)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {FORMAT}")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise StudyError(
                f"expected answer store format {FORMAT}, got {version}",
                where=self.where,
                hint="It was written by another version of automerge; continue with that one.",
            )
        for statement in _LATER:
            self._db.execute(statement)

    def close(self) -> None:
        """Closes the file. May be called twice."""
        self._db.close()

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing -------------------------------------------------------------------------------------------------

    def write(self, answers: Iterable[Stored], scores: Iterable[Scored]) -> None:
        """Adds answers and scores in one transaction. An answer or score that is there already stays as it is; what was
        unscored may be scored."""
        answer_rows = [answer.row() for answer in answers]
        score_rows = [score.row() for score in scores]
        if not answer_rows and not score_rows:
            return
        with self._explained(), self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?)", answer_rows)
            self._db.executemany(
                "INSERT INTO scores VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE "
                "SET value = excluded.value, detail = excluded.detail WHERE scores.value IS NULL",
                score_rows,
            )

    def keep_words(self, key: bytes, judge: str, words: str) -> None:
        """Adds what a judge said, at once: another's time or money was spent on it."""
        with self._explained(), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO judged VALUES (?,?,?)", (key, judge, words))

    def keep_name(self, checksum: str, name: str) -> None:
        """Adds what a model is called, for `show`."""
        with self._explained(), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO models VALUES (?,?)", (checksum, name))

    # --- reading -------------------------------------------------------------------------------------------------

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Those answers that are there, by key."""
        with self._explained():
            return {
                key: parse_answer(kind, text)
                for part in _chunks(keys)
                for key, kind, text in self._db.execute(
                    f"SELECT key, kind, answer FROM answers WHERE key IN ({_marks(part)})", part
                )
            }

    def words(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """What judges said, where it is there, by key."""
        with self._explained():
            return {
                key: words
                for part in _chunks(keys)
                for key, words in self._db.execute(f"SELECT key, words FROM judged WHERE key IN ({_marks(part)})", part)
            }

    def scores(self, keys: Sequence[bytes], skill: str) -> dict[tuple[bytes, bytes], tuple[Score, bool]]:
        """Every score of these answers, by (answer, scorer); and whether it is recorded for this skill already."""
        found: dict[tuple[bytes, bytes], tuple[Score, bool]] = {}
        with self._explained():
            for part in _chunks(keys):
                for answer, scorer, recorded_for, value, detail in self._db.execute(
                    f"SELECT answer, scorer, skill, value, detail FROM scores WHERE answer IN ({_marks(part)})", part
                ):
                    recorded = recorded_for == skill or found.get((answer, scorer), (None, False))[1]
                    found[answer, scorer] = (Score(value, detail), recorded)
        return found

    def results(self, checksum: str, skill: str) -> list[ItemResult]:
        """Everything a model was asked for a skill, ordered by item: for `show`. Where the skill was changed and asked
        anew, an item's newest score counts."""
        query = """
            SELECT s.item, a.prompt, a.kind, a.continuation, a.answer, a.tokens, s.value, s.detail, max(s.rowid)
            FROM answers a JOIN scores s ON s.answer = a.key
            WHERE a.checksum = ? AND s.skill = ? GROUP BY s.item ORDER BY s.item
        """
        with self._explained():
            return [
                ItemResult(
                    skill,
                    item,
                    prompt,
                    shown_answer(parse_answer(kind, text), continuation),
                    tokens,
                    Score(value, detail),
                )
                for item, prompt, kind, continuation, text, tokens, value, detail, _ in self._db.execute(
                    query, (checksum, skill)
                )
            ]

    def item_scores(self, checksum: str, skill: str) -> dict[str, float | None]:
        """Item → score of a model on a skill. Where the skill was changed and asked anew, the newest counts."""
        query = """
            SELECT s.item, s.value, max(s.rowid) FROM answers a JOIN scores s ON s.answer = a.key
            WHERE a.checksum = ? AND s.skill = ? GROUP BY s.item
        """
        with self._explained():
            return {item: value for item, value, _ in self._db.execute(query, (checksum, skill))}

    def models(self) -> dict[str, list[str]]:
        """Every checksum that was asked anything, with the skills it was asked for."""
        query = "SELECT DISTINCT a.checksum, s.skill FROM answers a JOIN scores s ON s.answer = a.key ORDER BY 1, 2"
        found: dict[str, list[str]] = {}
        with self._explained():
            for checksum, skill in self._db.execute(query):
                found.setdefault(checksum, []).append(skill)
        return found

    def names(self) -> dict[str, list[str]]:
        """What models are called, by checksum."""
        found: dict[str, list[str]] = {}
        with self._explained():
            for checksum, name in self._db.execute("SELECT checksum, name FROM models ORDER BY 1, 2"):
                found.setdefault(checksum, []).append(name)
        return found

    # --- shared --------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "Another process holds it." if "locked" in str(error) else "Is the folder there, writable, not full?"
            raise StudyError(f"the answer store cannot be used: {error}", where=self.where, hint=hint) from error
        except sqlite3.DatabaseError as error:
            hint = "Move the file away; the same command then asks the models again."
            raise StudyError(f"not a sound answer store: {error}", where=self.where, hint=hint) from error


def _chunks(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _marks(keys: Sequence[bytes]) -> str:
    return ",".join("?" * len(keys))
