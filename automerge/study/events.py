"""What a running study tells whoever watches it. The study knows nothing of screens."""

from collections.abc import Callable
from dataclasses import dataclass

from automerge.gate.verdict import Verdict
from automerge.study.records import Row


@dataclass(frozen=True)
class Stage:
    """A part of the work began: `searching` or `proving` (the held-out items); `total` candidates in it."""

    name: str
    total: int


@dataclass(frozen=True)
class Began:
    """A candidate's merge began: `label` is the baseline's name, or `trial N`."""

    label: str


@dataclass(frozen=True)
class Block:
    """A block of items was scored: `done` of `total` items of a skill."""

    label: str
    skill: str
    done: int
    total: int


@dataclass(frozen=True)
class Ended:
    """A candidate is finished, or was already when the study was opened (`restored`)."""

    row: Row
    spent_trials: int
    spent_seconds: float
    restored: bool = False


@dataclass(frozen=True)
class Judgement:
    """The verdict on held-out items."""

    verdict: Verdict


@dataclass(frozen=True)
class Note:
    """What a user should know of how the study runs: the engine chosen, where it keeps the sources, that it died."""

    text: str


Event = Note | Stage | Began | Block | Ended | Judgement
Listen = Callable[[Event], None]
