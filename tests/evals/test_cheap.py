"""Which skills have a cheap companion, and what it asks."""

import json
from pathlib import Path

import pytest
import yaml

from automerge.evals.cheap import companion
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.skill import load_skill

TURNS = [{"role": "user", "content": "{{ prompt }}"}, {"role": "assistant"}, {"role": "user", "content": "And?"}]
CODE = {"type": "code", "tests": "tests"}
ROWS = [{"id": n, "prompt": f"p{n}", "answer": f"a{n}", "tests": ["assert f(1) == 1"]} for n in range(8)]


def skill_of(folder: Path, **changed: object) -> LoadedSkill:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {
        "name": "skill",
        "data": {"path": "rows.jsonl", "id": "id"},
        "prompt": "{{ prompt }}",
        "scorer": {"type": "exact"},
        "items": {"search": 4, "held_out": 4},
        **changed,
    }
    given = {key: value for key, value in given.items() if value is not None}
    (folder / "skill.yaml").write_text(yaml.safe_dump(given))
    return prepare(load_skill("skill.yaml", folder=folder, name="skill"), 0)


@pytest.mark.parametrize(
    ("changed", "cheap", "gold"),
    [
        ({}, False, "a"),
        ({"gold": "It is {{ answer }}."}, False, "It is a"),
        ({"sampling": {"max_tokens": 16}}, True, None),  # as cheap itself
        ({"scorer": {"type": "likelihood"}}, True, None),
        ({"scorer": CODE}, False, None),  # its target, the tests, is no answer
        ({"scorer": CODE, "gold": "def {{ answer }}"}, False, "def a"),
        ({"scorer": CODE, "gold": "def {{ answer }}", "sampling": {"max_tokens": 16}}, False, "def a"),
        ({"prompt": None, "turns": TURNS}, False, None),  # several rounds
    ],
)
def test_which_skills_have_one(tmp_path: Path, changed: dict[str, object], cheap: bool, gold: str | None) -> None:
    skill = skill_of(tmp_path, **changed)
    assert skill.is_cheap is cheap
    found = companion(skill)
    assert (found is None) == (gold is None)
    if found is not None and gold is not None:
        assert found.scorer.needs == "likelihood" and found.hash != skill.hash
        assert [item.id for item in found.half("search")] == [item.id for item in skill.half("search")]
        assert all(item.target.startswith(gold) for item in found.half("search"))
        assert not found.half("held_out")
