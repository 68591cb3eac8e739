"""A skill ready to be asked: its split, its scorer, its hash, and its prompts rendered once a tokenizer.

It asks no model; `run.py` does.
"""

import hashlib
import json
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from automerge.engine.base import Engine
from automerge.errors import EngineError, SkillError
from automerge.evals.items import Item, Split, choose, known_by, load_items
from automerge.evals.scorers import Dialogue, Scorer
from automerge.evals.skill import Skill, load_skills
from automerge.records import Prompt, Sampling

Half = Literal["search", "held_out"]
SHORT = 16  # tokens: such an answer is generated about as fast as a likelihood is found


@dataclass(frozen=True)
class Question:
    """An item as it is sent. `asked` (32 bytes) stands for all that decides its answer but the weights; `misfit` says
    why the model cannot be asked it: it is then unscored. `answered` are the model's answers in the rounds before."""

    item: Item
    prompt: Prompt
    asked: bytes
    scorer_hash: str
    misfit: str | None = None
    answered: tuple[str, ...] = ()

    def dialogue(self, answer: str) -> Dialogue:
        """What was asked and answered up to this answer."""
        answered = (*self.answered, answer)
        return Dialogue(self.item.asked()[: len(answered)], answered)


@dataclass(frozen=True)
class LoadedSkill:
    """A skill with its chosen items. `hash` (64 hex digits) covers all that decides its scores but the weights."""

    skill: Skill
    split: Split
    scorer: Scorer
    sampling: Sampling
    hash: str
    _questions: dict[tuple[str, str, Half], tuple[Question, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """What the study calls it."""
        return self.skill.name

    @property
    def is_cheap(self) -> bool:
        """Whether it is scored for about a prefill: by a likelihood, or by answers of SHORT tokens at most."""
        short = self.sampling.max_tokens <= SHORT and self.scorer.target_is_answer and self.skill.rounds == 1
        return self.scorer.needs == "likelihood" or short

    def half(self, which: Half) -> tuple[Item, ...]:
        """The items of one half, in the order in which they are asked."""
        return self.split.search if which == "search" else self.split.held_out

    def unseen(self, seen: Set[str]) -> "LoadedSkill":
        """The same, its held-out items without those known by what was `seen` in a search (items.known_by)."""
        kept = tuple(item for item in self.split.held_out if not known_by(item) & seen)
        if len(kept) == len(self.split.held_out):
            return self
        digest = _digest([self.hash, [item.id for item in kept]]).hex()
        return replace(self, split=Split(self.split.search, kept), hash=digest, _questions={})

    def stored_names(self, item: Item) -> list[str]:
        """The names under which the store has an item's scores: one, or one a round."""
        rounds = self.skill.rounds
        return [item.id] if rounds == 1 else [f"{item.id}, round {number}" for number in range(1, rounds + 1)]

    def questions(self, engine: Engine, tokenizer: str, which: Half) -> tuple[Question, ...]:
        """One half as it is sent. Rendered once for each (engine fingerprint, tokenizer); `tokenizer` names the one
        the engine renders with now. Raises SkillError where that tokenizer has no chat template."""
        key = (engine.fingerprint, tokenizer, which)
        if key not in self._questions:
            self._questions[key] = tuple(self._question(engine, item) for item in self.half(which))
        return self._questions[key]

    def next_round(self, engine: Engine, questions: Sequence[Question], answers: Sequence[str]) -> list[Question]:
        """The questions that follow these, once they are answered."""
        return [
            self._question(engine, question.item, (*question.answered, answer))
            for question, answer in zip(questions, answers, strict=True)
        ]

    def _question(self, engine: Engine, item: Item, answered: tuple[str, ...] = ()) -> Question:
        where = f"{self.name}: item {item.id}"
        sent = item.sent(answered)
        try:
            prompt = engine.encode(sent) if isinstance(sent, str) else engine.render(sent)
        except (SkillError, EngineError) as error:
            if error.where is not None:
                raise
            raise type(error)(error.message, where=where, hint=error.hint) from error
        likelihood = self.scorer.needs == "likelihood"
        asked = {
            "kind": "loglikelihood" if likelihood else "generate",
            "tokens": list(prompt.token_ids),
            "continuation": item.target if likelihood else None,
            "sampling": None if likelihood else asdict(self.sampling),
            "engine": engine.fingerprint,
        }
        misfit = engine.misfit(prompt, item.target if likelihood else self.sampling)
        return Question(item, prompt, _digest(asked), self.scorer.hash(item.target), misfit, answered)


def prepare(skill: Skill, seed: int) -> LoadedSkill:
    """Loads, checks and splits a skill's items. Raises SkillError and ConfigError; needs no engine."""
    scorer = skill.make_scorer()
    if skill.data.lm_eval is not None:
        from automerge.evals.lm_eval.block import prepare_tasks  # its LoadedSkill is one of these

        return prepare_tasks(skill, seed)
    try:
        scorer.isolation()
    except SkillError as error:
        raise SkillError(error.message, where=skill.name, hint=error.hint) from error
    if (problem := scorer.unready()) is not None:
        raise SkillError(problem, where=skill.name)
    where = f"{skill.name}: {skill.data.path or skill.data.hub}"
    split = choose(load_items(skill), skill.items.search, skill.items.held_out, seed, where=where)
    content = {
        "chat": skill.chat,
        "scorer": scorer.spec(),
        "sampling": None if scorer.needs == "likelihood" else skill.sampling.model_dump(mode="json"),
        "block": skill.block,
        "search": _content(split.search),
        "held_out": _content(split.held_out),
    }
    return LoadedSkill(skill, split, scorer, skill.make_sampling(), _digest(content).hex())


def skill_names(entries: Sequence[str]) -> list[str]:
    """The skills that a command line names, several separated by commas."""
    return [name for entry in entries for name in entry.split(",") if name]


def named_skills(entries: Sequence[str], seed: int) -> list[LoadedSkill]:
    """The skills that a command line names, prepared: names or files, several separated by commas; a suite stands for
    all of its skills. Raises as `prepare` does."""
    names = skill_names(entries)
    if not names:
        raise SkillError("no skill is named", where="--skills", hint="Name one or more: names or files.")
    loaded = [skill for name in names for skill in load_skills(name, folder=Path())]
    for number, skill in enumerate(loaded):
        if skill.name in (other.name for other in loaded[:number]):
            hint = "Name it once, or give one of them another `name:` in its file."
            raise SkillError(f"two skills are called {skill.name!r}", where="--skills", hint=hint)
    return [prepare(skill, seed) for skill in loaded]


def _content(items: Sequence[Item]) -> list[Any]:
    # Rendered text, not templates: two ways to write the same prompt are the same skill.
    return [[item.id, item.prompt, item.target] for item in items]


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
