"""Rows → items, and items → the half the search sees and the half it never sees. It asks no model.

The split depends on the seed and on the items' ids only: not on the order of the file, the process or the machine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from automerge.engine.base import Message
from automerge.errors import SkillError
from automerge.evals.rows import Row, load_rows
from automerge.evals.scorers import Scorer
from automerge.evals.skill import Skill
from automerge.evals.template import Templates


@dataclass(frozen=True)
class Item:
    """One question. `prompt` is a conversation that ends with the user, or (chat: false) plain text.

    A message of the assistant without content is a gap: the model's own answer will stand there. Gaps divide the
    conversation into rounds, each of which ends with the user.
    """

    id: str
    prompt: tuple[Message, ...] | str
    target: str
    fields: Mapping[str, Any]

    def sent(self, answers: Sequence[str]) -> tuple[Message, ...] | str:
        """What is sent in the round after these answers: the conversation up to its gap, earlier gaps filled."""
        if isinstance(self.prompt, str):
            return self.prompt
        rounds = _rounds(self.prompt)[: len(answers) + 1]
        messages = list(rounds[0])
        for answer, following in zip(answers, rounds[1:], strict=True):
            messages += [{"role": "assistant", "content": answer}, *following]
        return tuple(messages)

    def asked(self) -> tuple[str, ...]:
        """What the user says last in each round, for a judge to read."""
        if isinstance(self.prompt, str):
            return (self.prompt,)
        return tuple(messages[-1]["content"] for messages in _rounds(self.prompt))


def _rounds(prompt: Sequence[Message]) -> list[list[Message]]:
    """The messages between the gaps."""
    rounds: list[list[Message]] = [[]]
    for message in prompt:
        if "content" in message:
            rounds[-1].append(message)
        else:
            rounds.append([])
    return rounds


@dataclass(frozen=True)
class Split:
    """Disjoint items in the fixed order in which they are asked."""

    search: tuple[Item, ...]
    held_out: tuple[Item, ...]


def load_items(skill: Skill) -> list[Item]:
    """Every item of a skill, in the file's order, without repeated rows. Raises SkillError for the first bad one."""
    where = skill.data.path or str(skill.data.hub)
    scorer = skill.make_scorer()
    items: dict[str, Item] = {}
    rows = load_rows(skill.data)
    templates = Templates(skill.templates(), rows)
    for number, row in enumerate(rows, start=1):
        place = f"{skill.name}: row {number} of {where}"
        item = _item(skill, row, place, scorer, templates)
        if (problem := scorer.check_target(item.target)) is not None:
            raise SkillError(f"{problem}: {item.target[:80]!r}", where=place)
        if item.id in items and skill.data.id is not None:
            raise SkillError(f"two rows have the id {item.id!r}", where=place, hint=f"data.id is {skill.data.id!r}.")
        items.setdefault(item.id, item)
    return list(items.values())


def _item(skill: Skill, row: Row, where: str, scorer: Scorer, templates: Templates) -> Item:
    prompt = _prompt(skill, row, where, templates)
    target = scorer.target_of(row, where)
    if target is None:
        target = templates.render(skill.target, row, where) if scorer.needs_target else ""
    if skill.data.id is None:
        identity = _sha256(json.dumps([prompt, target], ensure_ascii=False))[:16]
    elif row.get(skill.data.id) is None:
        problem = f"the field {skill.data.id!r} (data.id) is null" if skill.data.id in row else ""
        problem = problem or f"no field {skill.data.id!r} (data.id); the row has: {', '.join(row)}"
        raise SkillError(problem, where=where)
    else:
        identity = str(row[skill.data.id])
    return Item(identity, prompt, target, row)


def _prompt(skill: Skill, row: Row, where: str, templates: Templates) -> tuple[Message, ...] | str:
    def filled(role: str, source: str, fields: Row, where: str = where) -> Message:
        content = templates.render(source, fields, where)
        if not content.strip():
            raise SkillError(f"the {role} message is empty", where=where)
        return {"role": role, "content": content}

    if skill.prompt is None:
        return tuple(
            {"role": turn.role} if turn.content is None else filled(turn.role, turn.content, row)
            for turn in skill.turns
        )
    messages = [filled("system", skill.system, row)] if skill.system is not None else []
    for number, example in enumerate(skill.few_shot, start=1):
        place = f"{skill.name}: example {number} of few_shot"
        messages += [filled("user", skill.prompt, example, place), filled("assistant", skill.target, example, place)]
    messages.append(filled("user", skill.prompt, row))
    if skill.chat:
        return tuple(messages)
    # Plain text: question, answer, blank line, …, question.
    shots = [f"{q['content']}{a['content']}\n\n" for q, a in zip(messages[:-1:2], messages[1::2], strict=True)]
    return "".join(shots) + messages[-1]["content"]


def choose(
    items: Sequence[Item], search: int, held_out: int | Literal["all"], seed: int, *, where: str = "items"
) -> Split:
    """Two disjoint halves in a fixed shuffled order; items with one and the same prompt count as one item.

    Search items are taken from the front of the order and held-out ones from its end, so asking for more search items
    adds to the same ones and leaves the held-out half as it was. Raises SkillError where there are too few.
    """
    ordered = sorted(items, key=lambda item: _sha256(f"{seed}:{item.id}"))
    distinct: dict[str, Item] = {}
    for item in ordered:
        distinct.setdefault(_prompt_key(item), item)
    order = list(distinct.values())
    wanted = search + (max(1, len(order) - search) if held_out == "all" else held_out)
    if wanted > len(order):
        repeats = len(items) - len(order)
        raise SkillError(
            f"asked for {search} search and {held_out} held-out items, but there are {len(order)}"
            + (f" ({repeats} more repeat a prompt)" if repeats else ""),
            where=where,
            hint=f"Ask for at most {len(order)} in all under items:, or give more data.",
        )
    rest = len(order) - search if held_out == "all" else held_out
    return Split(tuple(order[:search]), tuple(order[len(order) - rest :]))


def known_by(item: Item) -> frozenset[str]:
    """What tells that two skills ask the same: the prompt, or the row it was made of; 16 hex digits each."""
    row = json.dumps(dict(item.fields), ensure_ascii=False, sort_keys=True, default=str)
    return frozenset((_prompt_key(item)[:16], _sha256(row)[:16]))


def _prompt_key(item: Item) -> str:
    return _sha256(json.dumps(item.prompt, ensure_ascii=False, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
