"""A study's folder on disk: what lies where, and the lock that keeps a second driver out."""

import json
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from automerge.config import SearchConfig
from automerge.errors import StudyBusy, StudyError
from automerge.files import write_whole
from automerge.merge.sparse.rows import ROWS
from automerge.recipe import ModelRef
from automerge.study.made_with import made_with


@dataclass(frozen=True)
class StudyFolder:
    """`results/<study>/`: study.db (Optuna), answers.db (every prompt, answer and score), verdict.json, study.json,
    vllm.log where vLLM serves, and router_rows.st where sparse models are made."""

    path: Path

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.path / 'study.db'}"

    @property
    def answers(self) -> Path:
        return self.path / "answers.db"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def engine_log(self) -> Path:
        return self.path / "vllm.log"

    @property
    def router(self) -> Path:
        return self.path / ROWS

    @property
    def about(self) -> Path:
        return self.path / "study.json"

    def create(self) -> None:
        """Makes the folder. Raises StudyError where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(
                f"cannot write there: {error.strerror}", where=str(self.path), hint="Name another folder with --out."
            ) from error

    def write_about(self, config: SearchConfig, models: Sequence[ModelRef], searched: Set[str]) -> None:
        """study.json: see read_about and read_searched. Versions and hardware that are new are added to those of
        earlier runs."""
        made: list[dict[str, str]] = []
        with suppress(StudyError):
            made = self.read_about()["made_with"]
        now = made_with()
        about = {
            "study": config.name,
            "config": json.loads(config.model_dump_json()),
            "models": [asdict(ref) for ref in models],
            "made_with": made if now in made else [*made, now],
            "searched": sorted(searched),
        }
        write_atomically(self.about, json.dumps(about, indent=2))

    def read_about(self) -> dict[str, Any]:
        """study.json: `study`, its name, `config`, `models` (name, path, digest) and `made_with`, the versions and
        hardware of each of its runs. Raises StudyError where the folder holds no study."""
        try:
            about: dict[str, Any] = json.loads(self.about.read_text(encoding="utf-8"))
            return {key: about[key] for key in ("study", "config", "models", "made_with")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                "no study in this folder",
                where=str(self.path),
                hint="Name its folder with --out, or run a search first.",
            ) from error

    def read_searched(self) -> set[str]:
        """What the study's search items are known by (evals.items.known_by); empty of a study that did not note it."""
        return set(json.loads(self.about.read_text(encoding="utf-8")).get("searched", []))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study for this process; the system lets go when the process ends, however it ends."""
        with held(self.path / "study.lock", str(self.path)):
            yield


@contextmanager
def held(path: Path, where: str) -> Iterator[None]:
    """Holds the lock file for this process. Raises StudyBusy where another holds it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StudyBusy(
            "another automerge is searching in this study", where=where, hint="Wait for it, or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, text: str) -> None:
    """The file as a whole or, if the process dies, as it was. Raises StudyError where it cannot be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise StudyError(f"cannot be written: {error.strerror}", where=str(path)) from error
