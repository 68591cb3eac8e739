"""Every command of the pages: its options are the command line's, and what can be run here is really run.

A command in a fence that is in neither table below fails, so a page cannot promise what nobody tried.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from automerge.cli import make_app
from tests.cli.world import Done, call, make_models, make_world

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "cli.md")]
VERDICT = (0, 3)

# In this order, in one folder: (as on the page, words in their place, exit codes). The small world has its own models,
# skills and budget; what is written is the page's.
RUN: list[tuple[str, dict[str, str], tuple[int, ...]]] = [
    (
        "automerge init org/base-model org/math-model path/to/code-lora",
        {"org/base-model": "{models}/base", "org/math-model": "{models}/math", "path/to/code-lora": "{models}/coding"},
        (0,),
    ),
    ("automerge check automerge.yaml", {}, (0,)),
    ("automerge search --budget 50", {"50": "12"}, VERDICT),
    ("automerge trials", {}, (0,)),
    ("automerge report", {}, (0,)),
    ("automerge export my-merge", {"export": "export --trial {trial}"}, (0,)),
    ("automerge verify my-merge", {}, (0,)),
    (
        "automerge eval my-merge org/base-model --skills gsm8k,mbpp",
        {"org/base-model": "{models}/base", "gsm8k,mbpp": "recall.yaml,say.yaml"},
        (0,),
    ),
    (
        "automerge gate my-merge --against org/base-model --skills constraints --margin 1%",
        {"org/base-model": "{models}/base", "constraints": "say.yaml"},
        VERDICT,
    ),
    ("automerge score --skill mbpp --answers answers.jsonl", {"mbpp": "recall.yaml"}, (0,)),
    ("automerge merge config.yml merged", {"config.yml": "my-merge/recipe.json"}, (0,)),
    ("automerge moe moe.yml my-moe", {}, (0,)),
    ("automerge check moe.yml", {}, (0,)),
    ("automerge export to-share --push-to-hub me/my-merge --dry-run", {"export": "export --trial {trial}"}, (0,)),
]
# What another test runs: it needs a server, a cluster or another's model.
ELSEWHERE = {
    "automerge search my.yaml --ray auto --workers 8": "tests/study/test_ray.py",
    "automerge search my.yaml --storage postgresql://user:password@host/automerge": "tests/study/test_drivers.py",
    "automerge eval my-merge org/instruct org/math --skills mt_bench --answers kept.db --out tables": (
        "tests/cli/test_suite.py"
    ),
}
MOE = """
base_model: {models}/base
gate_mode: random
dtype: float32
experts:
  - source_model: {models}/math
    positive_prompts: ["1 + 1"]
  - source_model: {models}/coding
    positive_prompts: ["def f"]
"""


def fenced(page: Path) -> Iterator[str]:
    """Commands within fences, without their comments."""
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside and line.startswith("automerge "):
            yield shlex.join(shlex.split(line, comments=True))


def inline(page: Path) -> Iterator[str]:
    """Commands within a sentence; they may leave out what the sentence says."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    yield from (" ".join(found.split()) for found in re.findall(r"`(automerge [a-z][^`]*)`", text))


IN_FENCES = sorted({command for page in PAGES for command in fenced(page)})
IN_SENTENCES = sorted({command for page in PAGES for command in inline(page)})


@pytest.fixture(scope="module")
def commands() -> Any:
    return typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [*IN_FENCES, *IN_SENTENCES])
def test_the_command_line_knows_it(commands: Any, command: str) -> None:
    _, name, *words = shlex.split(command)
    assert name in commands
    try:
        commands[name].make_context(name, words)
    except Exception as error:
        assert command in IN_SENTENCES and type(error).__name__ == "MissingParameter", f"{command}: {error}"


def test_a_renamed_option_would_be_found(commands: Any) -> None:
    with pytest.raises(Exception, match="--bugdet"):
        commands["search"].make_context("search", ["--bugdet", "50"])


def test_every_command_in_a_fence_is_run() -> None:
    assert IN_FENCES and IN_SENTENCES
    known = {command for command, *_ in RUN} | ELSEWHERE.keys()
    assert set(IN_FENCES) <= known, sorted(set(IN_FENCES) - known)
    assert known <= set(IN_FENCES), sorted(known - set(IN_FENCES))  # a page no longer says it
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


def test_they_do_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path / "cache"))
    models = make_models(tmp_path / "models")
    here = make_world(tmp_path / "world", models, low=0.3).parent
    monkeypatch.chdir(here)
    (here / "moe.yml").write_text(MOE.format(models=models))
    rows = (here / "teacher.jsonl").read_text().splitlines()
    answers = "\n".join(row.replace('"prompt"', '"asked"') for row in rows)
    (here / "answers.jsonl").write_text(re.sub(r'"asked": "[^"]*", ', "", answers) + "\n")
    trial = "0"
    for command, words, codes in RUN:
        line = shlex.join(shlex.split(command))
        for word, instead in words.items():
            line = line.replace(word, instead, 1)
        done = run_line(monkeypatch, capfd, line.format(models=models, trial=trial))
        assert done.code in codes, f"{line}: {done.message} {done.out[-500:]}"
        if command.startswith("automerge init"):
            shutil.copy("world.yaml", "automerge.yaml")  # what init wrote names skills that are downloaded
        if command == "automerge trials":
            listed = run_line(monkeypatch, capfd, "automerge trials --json").json
            trial = str(next(row["number"] for row in listed if row["state"] == "complete" and not row["baseline"]))
    assert (here / "my-merge" / "recipe.json").exists() and (here / "my-moe" / "config.json").exists()
    assert list(here.glob("results/*/report.html"))


def run_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str) -> Done:
    return call(monkeypatch, capfd, *shlex.split(line)[1:])
