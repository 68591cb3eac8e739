"""The frozen values that cross from one stage to the next, and their JSON form.

Nothing here knows how a value is made or where it is stored.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """How answers are generated. `temperature` 0 is greedy; `seed` matters above 0 only."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Prompt:
    """One rendered prompt: the text sent to the model and its token ids."""

    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One generated answer, cut before its stop string; `tokens` were generated, `finish` says why it ended."""

    text: str
    tokens: int
    finish: str  # "stop" or "length"


@dataclass(frozen=True)
class LogLikelihood:
    """Natural-log probability of every token of one continuation, in order; `greedy`: each was the likeliest token."""

    token_logprobs: tuple[float, ...]
    greedy: bool | None = None  # None: not told (kept by an older version)


@dataclass(frozen=True)
class Applied:
    """What a merge into a running engine did: the served weights' checksum (32 hex digits), seconds, bytes written."""

    checksum: str
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Score:
    """A score in [0, 1], higher is better; `value` None means unscored, which is not zero. `detail` says why."""

    value: float | None
    detail: str = ""


@dataclass(frozen=True)
class ItemResult:
    """One item asked of one model: what was sent, what came back, and the score. `tokens` counts generated tokens.

    An item of several rounds has the last prompt, which holds the whole conversation, and the last answer. Where a
    scorer grades every round, `rounds` has those scores, and `score` is their mean.
    """

    skill: str
    item: str
    prompt: str
    answer: str
    tokens: int
    score: Score
    rounds: tuple[Score, ...] = ()


@dataclass(frozen=True)
class Interval:
    """A point estimate with its confidence interval [low, high] at level `confidence`, from `n` paired items."""

    estimate: float
    low: float
    high: float
    confidence: float
    n: int


_adapters: dict[type[Any], TypeAdapter[Any]] = {}  # built once a type: building costs milliseconds


def to_json(value: Any) -> str:
    """Compact JSON of a record: sorted keys, so equal records give equal text."""
    return json.dumps(value, default=vars, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_json(kind: type[T], text: str | bytes) -> T:
    """The record written by `to_json`. Raises pydantic.ValidationError where the text is not one."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    value: T = _adapters[kind].validate_json(text)
    return value
