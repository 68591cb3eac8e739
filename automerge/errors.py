"""Every error a user can meet, and how the errors are related.

    AutomergeError            exit 1
    ├── ConfigError           a search space, skill or recipe file says something it may not
    │   └── MergekitError     a config of mergekit's does
    ├── SourceError           a checkpoint or adapter cannot be read, or does not fit its base
    ├── MergeError            a merge went wrong: values that are not finite, a checksum that differs
    ├── EngineError           the engine cannot serve this model or these prompts
    │   ├── EngineLost        it died, hung or failed in the middle of a call; the next apply starts it anew
    │   └── ClusterError      there is no Ray cluster to have engines on
    ├── SkillError            items, template or scorer of a skill are unusable
    ├── StudyError            a study cannot be opened or continued
    │   ├── StudyMismatch     what is asked now differs from what the study was started with
    │   └── StudyBusy         another process is driving the study
    └── ExportError           the merged checkpoint could not be written or verified

A message says what was expected and what came. `where` names the file, key or tensor; `hint` says what to do; `page` is
the page of docs/ that says more.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What a stranger's file holds is quoted; a message stays one screen all the same. A path is shorter than this.
_LONG = re.compile(r"\S{1000,}")


def _shortened(text: str) -> str:
    return _LONG.sub(lambda word: f"{word[0][:100]}… ({len(word[0])} characters)", text)


def find_page(name: str) -> Path | None:
    """A page of docs/, of the installed package or of its repository."""
    package = Path(__file__).parent
    pages = [package / "shipped" / "docs" / name, package.parent / "docs" / name]
    return next((page for page in pages if name and page.is_file()), None)


def install(extra: str) -> str:
    """How to install what an extra brings, to stand in a hint. PyPI's `automerge` is another project."""
    return f"pip install '.[{extra}]' in a clone of automerge"


def meant(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'NEAR'?)`, to stand behind an unknown name; nothing where none of the known ones is near."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like an unknown one; None where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


class AutomergeError(Exception):
    """The root of the tree. Printed as one screen by the command line, without a traceback."""

    page = ""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = _shortened(message)
        self.where = where and _shortened(where)
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n{self.hint}" if self.hint else text


class ConfigError(AutomergeError):
    """A search space, skill or recipe file says something it may not."""

    page = "search-spaces.md"


@contextmanager
def explained_on(page: str) -> Iterator[None]:
    """A file's mistakes are explained on the page of what the file is for: the innermost of these says it."""
    try:
        yield
    except ConfigError as error:
        if error.page == ConfigError.page:
            error.page = page
        raise


@contextmanager
def within(file: str) -> Iterator[None]:
    """Names the file before the place, for what checks a config's values and does not know where they stand."""
    try:
        yield
    except ConfigError as error:
        error.where = ": ".join(part for part in (file, error.where) if part) or None
        raise


class MergekitError(ConfigError):
    """A config of mergekit's says something it may not, or that is not merged here."""

    page = "mergekit.md"


class SourceError(AutomergeError):
    """A checkpoint or adapter cannot be read, or does not fit its base."""

    page = "merge.md"


class MergeError(AutomergeError):
    """A merge went wrong: values that are not finite, a checksum that differs."""

    page = "merge.md"


class EngineError(AutomergeError):
    """The engine cannot serve this model or these prompts."""

    page = "engine.md"


class EngineLost(EngineError):
    """The engine died, hung or failed in the middle of a call; the next apply starts it anew."""


class ClusterError(EngineError):
    """There is no Ray cluster to have engines on."""

    page = "scaling.md"


class SkillError(AutomergeError):
    """Items, template or scorer of a skill are unusable."""

    page = "skills.md"


class StudyError(AutomergeError):
    """A study cannot be opened or continued."""

    page = "study.md"


class StudyMismatch(StudyError):
    """What is asked now differs from what the study was started with; `differences` lists (key, then, now)."""

    def __init__(self, message: str, differences: list[tuple[str, str, str]], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.differences = differences


class StudyBusy(StudyError):
    """Another process is driving the study."""


class ExportError(AutomergeError):
    """The merged checkpoint could not be written or verified."""

    page = "merge.md"
