"""A small real world for the command line: a base, three fine-tunes, and items that one merge of them knows best.

A hidden teacher, base + 0.6 · every delta, wrote the answers: the search has something true to find, with the real
engine. `call` runs the command line in this process, `run` in one of its own; both give a Done.
"""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge import cli
from tests.tiny import fine_tune_of, tiny_llama

SOURCES = ("coding", "math", "writing")
TEACHER = 0.6  # its weight of every delta
SEARCH, HELD_OUT, BLOCK = 12, 42, 6
BLOCKS = {"search": 2 * SEARCH // BLOCK, "held_out": 2 * HELD_OUT // BLOCK}  # of both skills, a candidate
TIMEOUT = 300  # seconds until a process that hangs is given up

CONFIG = """
name: world
base: {models}/base
sources: {{math: {models}/math, coding: {models}/coding, writing: {models}/writing}}
method: task_arithmetic
parameters:
  weight: {{range: [{low}, {high}]}}
skills:
  recall: {{use: recall.yaml, data: {{path: {items}.jsonl}}}}
  say: {{use: say.yaml, data: {{path: {items}.jsonl}}}}
objective: {{recall: 1, say: 2}}
gates:
  - {{skill: say, no_worse_than: base, margin: 5%}}
racing: {racing}
"""

SKILL = """
name: {name}
data: {{path: teacher.jsonl, id: id}}
prompt: "{{{{ prompt }}}}"
chat: false
target: "{{{{ answer }}}}"
scorer: {scorer}
sampling: {{max_tokens: 3}}
items: {{search: {search}, held_out: {held_out}}}
block: {block}
"""


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """Standard error on one line, without the panel's frame."""
        return " ".join(self.err.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"))).split())


def make_models(folder: Path, hidden: int = 32) -> Path:
    """The base and its three fine-tunes."""
    base = tiny_llama(folder / "base", seed=0, hidden=hidden)
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] *= 30  # a fresh model finds every token equally likely; this one has opinions
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    for seed, name in enumerate(SOURCES, start=1):
        fine_tune_of(base, folder / name, seed=seed, scale=0.4)
    return folder


def make_world(
    folder: Path,
    models: Path,
    *,
    low: float = 0.0,
    high: float = 1.2,
    items: str = "teacher",
    racing: bool = False,
) -> Path:
    """Writes the skills, their items and the config; returns the config's path.

    Around 0.6 every proposal is near the teacher. `items="base"` has the answers of the base instead, which no merge
    can beat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, scorer in (("recall", "{type: exact}"), ("say", "{type: likelihood}")):
        text = SKILL.format(name=name, scorer=scorer, search=SEARCH, held_out=HELD_OUT, block=BLOCK)
        (folder / f"{name}.yaml").write_text(text)
    write_items(folder / f"{items}.jsonl", models / f"{items}.rows")
    config = folder / "world.yaml"
    config.write_text(CONFIG.format(models=models, low=low, high=high, items=items, racing=str(racing).lower()))
    return config


def write_items(path: Path, rows: Path) -> None:
    """Copies the answers of the teacher, or of the base, asking them on first use."""
    if not rows.exists():
        _ask(rows.parent, rows)
    path.write_text(rows.read_text())


def _ask(models: Path, rows: Path) -> None:
    """Greedy answers to made-up prompts. Computed apart from automerge: it must find this out by itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = AutoModelForCausalLM.from_pretrained(models / "base")
    if rows.stem == "teacher":
        base = load_file(models / "base" / "model.safetensors")
        own = [load_file(models / name / "model.safetensors") for name in SOURCES]
        merged = {name: weight + sum(TEACHER * (x[name] - weight) for x in own) for name, weight in base.items()}
        teacher.load_state_dict(merged)
    tokenizer = AutoTokenizer.from_pretrained(models / "base")
    chance = random.Random(0)
    lines: list[str] = []
    while len(lines) < SEARCH + HELD_OUT:
        prompt = "".join(chance.choice("abcdefghij0123456789+-=") for _ in range(8))
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            answer = teacher.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :].tolist()
        text = tokenizer.decode(answer)
        if min(answer) >= 4 and text == text.strip() and len(text) == 3:  # no special token, nothing to trim
            lines.append(json.dumps({"id": f"q{len(lines)}", "prompt": prompt, "answer": text}))
    rows.write_text("\n".join(lines) + "\n")


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> Done:
    """The command line in this process: the same `main`, without seconds of imports."""
    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setenv("COLUMNS", "300")
        patch.setenv("AUTOMERGE_DEBUG", "")
        patch.setattr(sys, "argv", ["automerge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = capfd.readouterr()
    return Done(int(ended.value.code or 0), printed.out, printed.err)


def environment(**more: str) -> dict[str, str]:
    """What a process of the command line is given."""
    return {**os.environ, "COLUMNS": "300", "OMP_NUM_THREADS": "1", "AUTOMERGE_DEBUG": "", **more}


def run(*arguments: object, cwd: Path, **more: str) -> Done:
    """`python -m automerge` in a process of its own."""
    command = [sys.executable, "-m", "automerge", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=TIMEOUT)
    return Done(done.returncode, done.stdout, done.stderr)
