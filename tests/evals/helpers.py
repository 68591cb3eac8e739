"""Small skills and recipes for these tests."""

import json
from pathlib import Path
from typing import Any

from automerge.engine.fake import FakeEngine
from automerge.evals import LoadedSkill, Skill, load_skill, prepare
from automerge.recipe import Group, ModelRef, Recipe, make_recipe


def recipe(weight: float = 0.5) -> Recipe:
    return make_recipe(
        method="linear",
        base=ModelRef("base", "", "0" * 64),
        sources=(ModelRef("math", "", "1" * 64),),
        groups=(Group((0, 2), "all", {"weight": {"math": weight}}),),
        options={},
        dtype="float32",
        seed=0,
    )


def sums(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q{n}", "question": f"{n} + {n}", "answer": 2 * n} for n in range(count)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def skill(folder: Path, count: int = 20, **changes: Any) -> Skill:
    """`count` sums, 10 for the search and 5 held out, in blocks of 4; keys of the file may be changed."""
    write_rows(folder / "sums.jsonl", sums(count))
    plain: dict[str, Any] = {
        "name": "sums",
        "data": {"path": "sums.jsonl"},
        "prompt": "{{ question }} = ",
        "chat": False,
        "scorer": {"type": "numeric"},
        "items": {"search": 10, "held_out": 5},
        "block": 4,
    }
    return load_skill({**plain, **changes}, folder=folder)


def loaded(folder: Path, seed: int = 0, **changes: Any) -> LoadedSkill:
    return prepare(skill(folder, **changes), seed)


def calculator(_: Recipe, prompt: str) -> str:
    """The right answer, whatever the prompt's sum is."""
    first, second = prompt.removesuffix(" = ").split(" + ")
    return str(int(first) + int(second))


def serving(engine: FakeEngine, weight: float = 0.5) -> tuple[FakeEngine, str]:
    return engine, engine.apply(recipe(weight)).checksum
