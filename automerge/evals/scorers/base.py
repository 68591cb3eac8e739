"""What a scorer is, and the registry of them. It knows no engine and no store.

A scorer's parameters are declared once, as its `Params`; its name in a skill file is the one it registers under.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from automerge.config import Closed, validate
from automerge.engine.turns import Turns
from automerge.errors import ConfigError, SkillError, meant
from automerge.records import Completion, LogLikelihood, Score

Answer = Completion | LogLikelihood  # generated text, or the likelihood of a given one


@dataclass(frozen=True)
class Dialogue:
    """What a user asked and what the model answered, turn by turn; the last answer is the one to be scored."""

    asked: tuple[str, ...]
    answered: tuple[str, ...]


class Memory(Protocol):
    """Where a judge's words are kept for ever, by content. The answer store is one."""

    def words(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Those that are there."""
        ...

    def keep_words(self, key: bytes, judge: str, words: str) -> None:
        """Adds what a judge said."""
        ...


class Scorer(ABC):
    """Scores answers of one skill. `needs` says what the engine is asked for: text, or the target's likelihood."""

    Params: ClassVar[type[Closed]] = Closed
    needs: ClassVar[Literal["answer", "likelihood", "lm_eval"]] = "answer"
    name: ClassVar[str]  # set by `register`
    version: ClassVar[int] = 1  # raise it when the same answer may now score differently
    target_is_answer: ClassVar[bool] = False  # True: a target is a text that the model itself could answer
    each_round: ClassVar[bool] = False  # True: every answer of a conversation is scored, not the last alone

    def __init__(self, params: Any) -> None:
        self.params = params

    @property
    def needs_target(self) -> bool:
        """False where the parameters alone say what is right."""
        return True

    def isolation(self) -> str | None:
        """How what an answer runs is contained; None for a scorer that runs nothing. Raises SkillError where this
        machine has no sandbox for it."""
        return None

    def unready(self) -> str | None:
        """Why nothing could be scored now, or None: asked before anything is generated."""
        return None

    @property
    def asks_base(self) -> bool:
        """Whether it needs the base model of a study to score."""
        return False

    def check_rounds(self, rounds: int) -> str | None:
        """Why this scorer does not fit a skill of so many rounds, or None."""
        return "a likelihood takes one round" if rounds > 1 and self.needs == "likelihood" else None

    def target_of(self, row: Mapping[str, Any], where: str) -> str | None:
        """The gold answer, made of a row's fields; None: the skill's `target` template says it. Raises SkillError."""
        return None

    def check_target(self, target: str) -> str | None:
        """What is wrong with a gold answer, or None: found when items are loaded, not after generating."""
        return None if target.strip() else "the target is empty"

    @abstractmethod
    def score(self, answer: Answer, target: str) -> Score:
        """The score of one answer, in [0, 1], or unscored."""

    def score_block(self, answers: Sequence[Answer], targets: Sequence[str]) -> list[Score]:
        """The scores of a block of answers, in order."""
        return [self.score(answer, target) for answer, target in zip(answers, targets, strict=True)]

    def score_dialogues(
        self,
        answers: Sequence[Answer],
        targets: Sequence[str],
        dialogues: Sequence[Dialogue],
        memory: Memory | None = None,
        turns: Turns | None = None,
    ) -> list[Score]:
        """`score_block` for a scorer that reads more than the last answer; `turns`: the engine that answered, where
        the base model can be asked in it. Raises SkillError."""
        return self.score_block(answers, targets)

    def spec(self) -> dict[str, Any]:
        """Everything that decides a score besides answer and target, as plain values."""
        return {"type": self.name, "version": self.version, **self.params.model_dump(mode="json")}

    def hash(self, target: str) -> str:
        """64 hex digits over the scorer, its parameters and one item's target: the key of a stored score."""
        text = json.dumps([self.spec(), target], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_outside_study(scorer: Scorer, where: str) -> None:
    """Raises SkillError for a scorer that asks a study's base model, where there is no study."""
    if scorer.asks_base:
        message = "the judge is the base model of a study, and here is none"
        raise SkillError(message, where=where, hint="Name the judge's folder or hub id: judge: {model: …}.")


class TextScorer(Scorer):
    """A scorer that reads generated text."""

    def score(self, answer: Answer, target: str) -> Score:
        if not isinstance(answer, Completion):
            raise TypeError(f"{self.name} reads generated text, got {type(answer).__name__}")
        return self.score_text(answer.text, target)

    @abstractmethod
    def score_text(self, text: str, target: str) -> Score:
        """The score of one text."""


_SCORERS: dict[str, type[Scorer]] = {}
S = TypeVar("S", bound=type[Scorer])


def register(name: str) -> Callable[[S], S]:
    """Class decorator: makes a scorer known by `name`. A name may be taken once."""

    def add(cls: S) -> S:
        if name in _SCORERS:
            raise ValueError(f"scorer {name!r} is registered already, by {_SCORERS[name].__module__}")
        cls.name = name
        _SCORERS[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Every scorer's name, sorted."""
    return sorted(_SCORERS)


def make_scorer(spec: Mapping[str, Any], where: str) -> Scorer:
    """The scorer of `{type: NAME, …parameters}`. Raises ConfigError for an unknown type or parameter."""
    kind = spec.get("type")
    if not isinstance(kind, str) or kind not in _SCORERS:
        what = f"unknown type {kind!r}{meant(str(kind), names())}" if kind is not None else "key 'type' is missing"
        raise ConfigError(f"{what}; known types: {', '.join(names())}", where=where)
    cls = _SCORERS[kind]
    return cls(validate(cls.Params, {key: value for key, value in spec.items() if key != "type"}, where))
