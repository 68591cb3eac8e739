"""`automerge score`: answers made elsewhere, item by item; and what is wrong with a file of answers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automerge.cli import score
from automerge.errors import SkillError
from automerge.evals.sandbox import choice
from tests.cli.world import Done
from tests.evals.judge_server import judge_server

Command = Callable[..., Done]
SUMS = [{"id": "q1", "question": "1 + 1", "answer": "2"}, {"id": 2, "question": "2 + 2", "answer": "4"}]
ADDING = [
    {"task": "add", "text": "Write add.", "tests": ["assert add(1, 2) == 3"]},
    {"task": "sub", "text": "Write sub.", "tests": ["assert sub(1, 2) == -1", "assert sub(0, 0) == 0"]},
]


def skill(folder: Path, rows: list[dict[str, Any]], scorer: str, **data: str) -> Path:
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt = next(name for name in ("question", "text") if name in rows[0])
    source = json.dumps({"path": "items.jsonl", **data})
    path = folder / "skill.yaml"
    path.write_text(f'name: given\ndata: {source}\nprompt: "{{{{ {prompt} }}}}"\nscorer: {scorer}\n')
    return path


def answers(folder: Path, rows: list[Any]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_numbers_are_scored_in_the_answers_order(automerge: Command, tmp_path: Path) -> None:
    given = answers(tmp_path, [{"id": 2, "answer": "It is 5."}, {"id": "q1", "answer": "1 + 1 = 2"}])
    done = automerge(
        "score", "--skill", skill(tmp_path, SUMS, "{type: numeric}", id="id"), "--answers", given, "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert done.json == [
        {"id": "2", "score": 0.0, "detail": "5, expected 4"},
        {"id": "q1", "score": 1.0, "detail": "2"},
    ]


def test_programs_are_run(automerge: Command, tmp_path: Path) -> None:
    try:
        choice.sandbox_level()
    except SkillError as error:
        pytest.skip(error.message)
    given = answers(
        tmp_path,
        [
            {"id": "add", "answer": "```python\ndef add(a, b):\n    return a + b\n```"},
            {"id": "sub", "answer": "def sub(a, b):\n    return b - a"},
        ],
    )
    where = skill(tmp_path, ADDING, "{type: code, tests: tests}", id="task")
    done = automerge("score", "--skill", where, "--answers", given, "--json")
    assert done.json == [
        {"id": "add", "score": 1.0, "detail": ""},
        {"id": "sub", "score": 0.0, "detail": "sub(1, 2) == -1: got 1"},
    ]
    shown = automerge("score", "--skill", where, "--answers", given)
    assert "sub(1, 2) == -1: got 1" in shown.out and "mean 0.5000 of 2 scored, 0 unscored" in shown.out


@pytest.mark.parametrize(
    ("lines", "where", "message"),
    [
        ('{"id": "q1", "answer": "2"}\n{"id": 2, "answer"\n', "line 2", "not valid JSON"),
        ('{"id": "q1", "answer": "2"}\n\n["q1"]\n', "line 3", "expected an object with id and answer, got list"),
        ('{"id": "q1", "text": "2"}\n', "line 1", "expected an object with id and answer, got the fields id, text"),
        ('{"id": "q1", "answer": 2}\n', "line 1", "an answer that is text, got id str, answer int"),
        ('{"id": null, "answer": "2"}\n', "line 1", "an id that is text or an integer"),
        ('{"id": "q1", "answer": "2"}\n{"id": "q1", "answer": "3"}\n', "line 2", "a second answer for the id 'q1'"),
        ('{"id": "q1", "answer": "2"}\n{"id": "q9", "answer": "3"}\n', "", "1 ids are not items of given: q9"),
        ('{"id": "q1", "answer": "2"}\n', "", "1 of 2 items have no answer: 2"),
        ("\n", "", "there are no answers"),
        (b'{"id": "q1", "answer": "\xff"}\n', "line 1", "not valid UTF-8"),
        (None, "", "cannot read the answers"),
    ],
)
def test_mistakes_are_named_with_their_line(
    automerge: Command, tmp_path: Path, lines: str | bytes | None, where: str, message: str
) -> None:
    path = tmp_path / "answers.jsonl"
    if lines is not None:
        path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    done = automerge("score", "--skill", skill(tmp_path, SUMS, "{type: exact}", id="id"), "--answers", path)
    assert (done.code, done.out) == (1, "")
    assert "SkillError" in done.err and message in done.message and where in done.message


def test_a_likelihood_cannot_be_scored_from_text(automerge: Command, tmp_path: Path) -> None:
    given = answers(tmp_path, [{"id": "q1", "answer": "2"}])
    done = automerge("score", "--skill", skill(tmp_path, SUMS, "{type: likelihood}", id="id"), "--answers", given)
    assert done.code == 1 and "automerge eval" in done.message


def test_a_task_of_lm_evals_has_no_items_to_answer(automerge: Command) -> None:
    done = automerge("score", "--skill", "lm_eval:arc_easy", "--items")
    assert done.code == 1 and "automerge eval" in done.message


def test_without_a_sandbox_code_is_refused_with_the_way_to_get_one(
    automerge: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "weakness", lambda level: "not here")
    choice._found.cache_clear()
    given = answers(tmp_path, [{"id": "add", "answer": ""}, {"id": "sub", "answer": ""}])
    try:
        where = skill(tmp_path, ADDING, "{type: code, tests: tests}", id="task")
        done = automerge("score", "--skill", where, "--answers", given)
    finally:
        choice._found.cache_clear()
    assert done.code == 1 and "apt-get install bubblewrap" in done.message


def test_the_items_of_a_skill_are_printed_for_whoever_answers_them(automerge: Command, tmp_path: Path) -> None:
    where = skill(tmp_path, SUMS, "{type: numeric}")  # no id field: ids are hashes that nobody knows
    lines = [json.loads(line) for line in automerge("score", "--skill", where, "--items").out.splitlines()]
    assert [line["prompt"][-1] for line in lines] == [{"role": "user", "content": text} for text in ("1 + 1", "2 + 2")]
    given = answers(tmp_path, [{"id": line["id"], "answer": "2"} for line in lines])
    done = automerge("score", "--skill", where, "--answers", given, "--json")
    assert [row["score"] for row in done.json] == [1.0, 0.0]
    assert "--items" in automerge("score", "--skill", where).message


def test_what_a_judge_said_is_kept_where_that_is_asked(automerge: Command, tmp_path: Path) -> None:
    with judge_server(lambda prompt, n: "[[7]]") as server:
        judge = f"{{type: judge, judge: {{model: wise, url: {server.url}}}}}"
        where = skill(tmp_path, SUMS, judge, id="id")
        given = answers(tmp_path, [{"id": 2, "answer": "5"}, {"id": "q1", "answer": "2"}])
        call = ("score", "--skill", where, "--answers", given, "--judged", tmp_path / "judged.db", "--json")
        first = automerge(*call)
        assert [row["score"] for row in first.json] == [pytest.approx(6 / 9)] * 2
        assert len(server.asked) == 2
        assert automerge(*call).json == first.json
        assert len(server.asked) == 2


def test_what_looks_like_markup_is_printed_as_it_is(automerge: Command, tmp_path: Path) -> None:
    odd = ["[/INST]", "d[k]", ":smile:", "[bold]x[/bold]"]
    rows = [{"id": name, "question": "1 + 1", "answer": "2"} for name in odd]
    given = answers(tmp_path, [{"id": name, "answer": "2"} for name in odd])
    done = automerge("score", "--skill", skill(tmp_path, rows, "{type: numeric}", id="id"), "--answers", given)
    assert done.code == 0 and all(name in done.out for name in odd)


def test_every_command_prints_that_way() -> None:
    files = [path for path in Path(score.__file__).parent.glob("*.py") if path.name != "console.py"]
    assert len(files) > 15
    assert [path.name for path in files if re.search(r"(?<!make_)Console\(|\bprint\(.*\[/", path.read_text())] == []


def test_a_terminal_that_cannot_show_a_letter(tmp_path: Path) -> None:
    rows = [{"id": "π", "question": "1 + 1", "answer": "2"}]
    given = answers(tmp_path, [{"id": "π", "answer": "2"}])
    arguments = ["score", "--skill", str(skill(tmp_path, rows, "{type: numeric}", id="id")), "--answers", str(given)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "automerge", *arguments], capture_output=True, env=environment)
    assert done.returncode == 0 and b"mean 1.0000 of 1 scored" in done.stdout


def test_it_loads_no_model_code() -> None:
    heavy = ("torch", "transformers", "datasets", "optuna")
    code = f"import sys, automerge.cli.score; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
