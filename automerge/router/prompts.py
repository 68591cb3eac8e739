"""What a router row is made of: prompts that are given, and search items of a skill. Held-out items are never read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from automerge.evals.items import Item
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.skill import load_skill
from automerge.router.gates import Wanted

PROMPTS = 32  # of a skill's search items, that make a router row


class Asked(Protocol):
    """An expert's prompts, in whatever config."""

    @property
    def skill(self) -> str | None: ...
    @property
    def positive_prompts(self) -> tuple[str, ...]: ...
    @property
    def negative_prompts(self) -> tuple[str, ...]: ...


def wanted_of(asked: Asked, folder: Path, seed: int, skills: Mapping[str, LoadedSkill] | None = None) -> Wanted:
    """`skills` are those that are open, by name; another is opened, a file from `folder` on or a shipped one, its
    items parted by `seed`. Raises SkillError."""
    positive = asked.positive_prompts
    if asked.skill is not None:
        found = (skills or {}).get(asked.skill)
        skill = found or prepare(load_skill(asked.skill, folder=folder, name=asked.skill), seed)
        positive += tuple(_text(item) for item in skill.half("search")[:PROMPTS])
    return Wanted(positive, asked.negative_prompts)


def _text(item: Item) -> str:
    """What the user says first."""
    asked = item.prompt
    return asked if isinstance(asked, str) else next(turn["content"] for turn in asked if turn["role"] == "user")
