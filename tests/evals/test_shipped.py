"""What the shipped skill files say, against what was published: no item is read."""

import json
from pathlib import Path

from automerge.evals.scorers.instructions import parse_instructions
from automerge.evals.skill import load_skills

ROOT = Path(__file__).parents[2]
# FastChat, fastchat/llm_judge/common.py: temperature_config and NEED_REF_CATS
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
WITH_REFERENCES = {"math", "reasoning", "coding"}


def test_mt_bench_is_asked_as_published() -> None:
    skills = {skill.name.removeprefix("mt_bench/"): skill for skill in load_skills("mt_bench", folder=Path())}
    assert {name: skill.sampling.temperature for name, skill in skills.items()} == TEMPERATURES
    for name, skill in skills.items():
        assert skill.sampling.max_tokens == 1024 and skill.items.held_out == "all"
        assert [turn.role for turn in skill.turns or ()] == ["user", "assistant", "user"]
        assert bool(skill.scorer.get("references")) == (name in WITH_REFERENCES)
        assert skill.data.where == {"category": name}


def test_constraints_are_instructions_that_can_be_followed() -> None:
    rows = [json.loads(line) for line in (ROOT / "evals" / "constraints.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) >= 50 and len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        checks = parse_instructions(json.dumps(row["constraints"]))
        assert checks and row["question"].strip()


def test_humaneval_is_asked_as_published_and_in_chat() -> None:
    (plain,), (chat,) = load_skills("humaneval", folder=Path()), load_skills("humaneval_chat", folder=Path())
    assert (plain.chat, chat.chat) == (False, True) and plain.scorer == chat.scorer and plain.data == chat.data
    answer = "```python\nimport re\n\ndef f(x):\n    # it\n    if x:\n        print(x)\n\nclass A: pass\n```"
    assert any(stop in answer for stop in plain.sampling.stop)
    assert not any(stop in answer for stop in chat.sampling.stop)


def test_every_skill_tells_its_source_and_licence() -> None:
    for path in (path for path in (ROOT / "evals").glob("*.yaml") if not path.name.startswith("zoo_")):
        text = path.read_text("utf-8")
        assert "source:" in text and "licence:" in text, path.name
