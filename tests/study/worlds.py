"""A small world for study tests: a tiny base with three fine-tunes, three skills, and a scripted landscape.

The FakeEngine answers right or wrong by comparing a fixed number of each item with a skill level that is a smooth
function of the recipe's weights, so searches, gates and verdicts have something true to find.
"""

import hashlib
import json
import math
from pathlib import Path

from automerge.config import load_search
from automerge.engine.fake import FakeEngine
from automerge.recipe import Recipe
from automerge.study.session import Plan, make_plan
from tests.tiny import fine_tune_of, tiny_llama

SKILLS = ("coding", "math", "writing")
BEST = {"coding": 0.3, "math": 0.9, "writing": 0.6}  # the weights of the best merge

CONFIG = """
name: world
base: {models}/base
sources: {{math: {models}/math, coding: {models}/coding, writing: {models}/writing}}
method: dare_linear
parameters:
  weight: {{range: [0.0, 1.2]}}
  drop: {{range: [0.0, 0.9]}}
skills:
  math: {{use: skill.yaml, data: {{path: math.jsonl}}}}
  coding: {{use: skill.yaml, data: {{path: coding.jsonl}}}}
  writing: {{use: skill.yaml, data: {{path: writing.jsonl}}}}
objective: {{math: 1, coding: 1, writing: 1}}
racing: false
tiers: []
sampler: {{name: tpe}}
gates:
  - {{skill: writing, no_worse_than: base, margin: 0.1}}
"""

SKILL = """
name: skill
data: {path: missing.jsonl, id: id}
prompt: "{{ prompt }}"
chat: false
scorer: {type: exact}
items: {search: 40, held_out: 120}
block: 20
"""


def make_models(folder: Path) -> Path:
    """Base and three fine-tunes."""
    tiny_llama(folder / "base", seed=0)
    for seed, name in enumerate(SKILLS, start=1):
        fine_tune_of(folder / "base", folder / name, seed=seed)
    return folder


def make_world(folder: Path, models: Path, extra: str = "") -> Path:
    """Writes items, skill and config; returns the config's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for skill in SKILLS:
        rows = [{"id": f"{skill}-{i}", "prompt": f"{skill} {i}", "answer": "yes"} for i in range(160)]
        (folder / f"{skill}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "skill.yaml").write_text(SKILL)
    config = folder / "world.yaml"
    config.write_text(CONFIG.format(models=models) + extra)
    return config


def plan_of(config: Path) -> Plan:
    return make_plan(load_search(str(config)))


def level(recipe: Recipe, skill: str) -> float:
    """The share of a skill's items a recipe answers right: most at the skill's own best weight."""
    values = recipe.groups[0].values
    weights = values["weight"]
    drops = values.get("drop", dict.fromkeys(SKILLS, 0.0))
    assert not isinstance(weights, float)
    assert not isinstance(drops, float)
    if recipe.method == "linear":
        total = sum(weights.values())
        weights = {name: weight / total for name, weight in weights.items()}
    return 0.85 - 0.6 * abs(weights[skill] * (1 - 0.1 * drops[skill]) - BEST[skill])


def answer(recipe: Recipe, prompt: str) -> str:
    skill, number = prompt.split()
    return "yes" if _difficulty(skill, number) < level(recipe, skill) else "no"


def _difficulty(skill: str, number: str) -> float:
    """Of an item, in [0, 1)."""
    digest = hashlib.sha256(f"{skill}{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**32


def logprobs(recipe: Recipe, prompt: str, continuation: str) -> list[float]:
    """The likelihood of the right answer rises with the level, and is lower for what is difficult."""
    skill, number = prompt.split()
    return [math.log(0.05 + 0.6 * level(recipe, skill) + 0.2 * (1 - _difficulty(skill, number)))]


def scripted() -> FakeEngine:
    return FakeEngine(answer, lambda *asked: logprobs(*asked))
