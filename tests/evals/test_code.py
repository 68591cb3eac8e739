"""The code scorer: answers as models write them, what it takes from a row, and what its hash covers."""

import json
from pathlib import Path
from typing import Any

import pytest

from automerge.errors import ConfigError, SkillError
from automerge.evals import load_skill, prepare
from automerge.evals.sandbox import choice
from automerge.evals.scorers import Scorer, make_scorer
from automerge.records import Completion, Score
from tests.evals.helpers import write_rows

CASES = json.loads((Path(__file__).parents[1] / "cases" / "code.json").read_text(encoding="utf-8"))
MBPP = {"text": "Write add.", "test_list": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"], "test_setup_code": ""}
HUMANEVAL = {
    "prompt": 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """ Sums.\n    """\n',
    "entry_point": "total",
    "test": "METADATA = {}\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}


@pytest.fixture(scope="session")
def sandbox() -> None:
    try:
        choice.sandbox_level()
    except SkillError as error:
        pytest.skip(error.message)


def code(**params: Any) -> Scorer:
    return make_scorer({"type": "code", "tests": "test_list", "seconds": 1, **params}, where="case")


def score(scorer: Scorer, row: dict[str, Any], answer: str) -> Score:
    target = scorer.target_of(row, "row 1")
    assert target is not None and scorer.check_target(target) is None
    return scorer.score(Completion(answer, 1, "stop"), target)


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_case(sandbox: None, case: dict[str, Any]) -> None:
    found = score(code(), MBPP, case["answer"])
    assert found.value == case["score"], found
    assert bool(found.detail) == (found.value == 0)


@pytest.mark.parametrize(
    "answer",
    [
        "    return sum(numbers)\n",
        "    n = 0\n    for x in numbers:\n        n += x\n    return n\n\n",
        "```python\ndef total(numbers):\n    return sum(numbers)\n```",
        "```python\n" + HUMANEVAL["prompt"] + "    return sum(numbers)\n```",
        "Sure.\n```python\ndef total(numbers: List[int]) -> int:\n    return sum(numbers)\n```",
        "```python\n    return sum(numbers)\n```",
        "    return sum(numbers)\n```\nThis adds them.",
        "    n = sum(numbers)\n    return n\nThis adds them.\n```python\ntotal([1])\n```",
        "   n = sum(numbers)\n    return n",
        "n = sum(numbers)\n    return n",
        "  n = 0\n  for x in numbers:\n    n += x\n  return n\n",
        "```python\nn = 0\nfor x in numbers:\n    n += x\nreturn n\n```",
        "Here is the body:\n\n```python\n    n = sum(numbers)\n    return n\n```\nIt adds them.",
        "Here it is.\n\n" + HUMANEVAL["prompt"] + "    return sum(numbers)\n\nDone.",
    ],
)
def test_humaneval_answers_continue_the_prompt_or_repeat_it(sandbox: None, answer: str) -> None:
    assert score(code(tests="test"), HUMANEVAL, answer) == Score(1.0)


@pytest.mark.parametrize(
    "answer",
    ["    return 3\nThis adds them.", "I cannot.", "    return sum(numbers", "    return sum(numbers) +\n\nDone."],
)
def test_humaneval_answers_that_are_no_right_body(sandbox: None, answer: str) -> None:
    assert score(code(tests="test"), HUMANEVAL, answer).value == 0


def test_humaneval_wrong_answers(sandbox: None) -> None:
    assert score(code(tests="test"), HUMANEVAL, "    return 3\n") == Score(0.0, "candidate([]) == 0: got 3")
    assert score(code(tests="test"), HUMANEVAL, "def other(): pass").value == 0


def test_a_block_keeps_its_order(sandbox: None) -> None:
    scorer = code()
    target = scorer.target_of(MBPP, "") or ""
    answers = [Completion(f"def add(a, b): return a + b + {n % 2}", 1, "stop") for n in range(12)]
    assert [one.value for one in scorer.score_block(answers, [target] * 12)] == [1.0, 0.0] * 6


def test_setup_comes_from_the_usual_fields_or_the_one_named(sandbox: None) -> None:
    answer = "def add(a, b): return a + b"
    for row, params in (
        ({**MBPP, "test_setup_code": "one = 1"}, {}),
        ({"test_list": MBPP["test_list"], "test_imports": ["one = 1"]}, {}),
        ({**MBPP, "before": "one = 1"}, {"setup": "before"}),
    ):
        row = {**row, "test_list": ["assert add(one, 2) == 3"]}
        assert score(code(**params), row, answer) == Score(1.0)


@pytest.mark.parametrize(
    ("row", "params", "message"),
    [
        ({"text": "x"}, {}, "expected text or a list of lines in the field 'test_list' (scorer), the row has: text"),
        ({"test_list": 5}, {}, "expected text or a list of lines in the field 'test_list' (scorer), got int"),
        (MBPP, {"setup": "nothing"}, "in the field 'nothing'"),
    ],
)
def test_rows_that_lack_a_field(row: dict[str, Any], params: dict[str, Any], message: str) -> None:
    with pytest.raises(SkillError) as caught:
        code(**params).target_of(row, "row 1")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (["assert add(1"], "the tests are not Python: line 1"),
        ([], "the tests cannot be used: they call nothing of the program"),
        (["assert True"], "the tests cannot be used: they call nothing of the program"),
        (["def test_f():\n    assert add(1, 2) == 3"], "every program would pass: no assert is reached"),
        (["print(add(1, 2) == 3)"], "every program would pass: no assert is reached"),
        (["if __name__ == '__main__':\n    assert add(1, 2) == 3"], "every program would pass: no assert is reached"),
        (["def check(candidate):\n    assert candidate(1, 2) == 3\nadd"], "name the entry_point"),
        (["import numpy as np\nassert np.all(add(1, 2) == 3)"], "they import numpy, and the sandbox has Python's own"),
    ],
)
def test_tests_that_are_none_are_found_at_loading(tests: list[str], message: str) -> None:
    scorer = code()
    problem = scorer.check_target(scorer.target_of({"test_list": tests}, "") or "")
    assert problem is not None and message in problem


@pytest.mark.parametrize(
    "tests", ["def test_f():\n    assert add(1, 2) == 3\ntest_f()", "for n in range(3):\n    assert add(n, n) == 2 * n"]
)
def test_tests_that_reach_an_assert_are_taken(tests: str) -> None:
    scorer = code()
    assert scorer.check_target(scorer.target_of({"test_list": [tests]}, "") or "") is None


def test_the_hash_covers_tests_and_unsafe() -> None:
    target = code().target_of(MBPP, "") or ""
    other = code().target_of({**MBPP, "test_list": ["assert add(1, 2) == 4"]}, "") or ""
    assert len({code().hash(target), code().hash(other), code(unsafe=True).hash(target)}) == 3
    assert code(unsafe=True).spec()["unsafe"] is True and code().spec()["unsafe"] is False


def test_hashes_of_stored_scores_stay_as_they_were() -> None:
    """Keys in existing answer stores."""
    assert make_scorer({"type": "exact"}, "").hash("x").startswith("01565cb7ccf858b9")
    assert make_scorer({"type": "likelihood"}, "").hash("x").startswith("cf4493df6be2ec69")


def test_unsafe_runs_with_limits_alone_and_never_as_root() -> None:
    scorer = code(unsafe=True)
    assert scorer.isolation() == "none (unsafe: true)"
    program = "import os\ndef add(a, b):\n    assert os.getuid() != 0\n    return a + b"
    assert score(scorer, MBPP, program) == Score(1.0)
    assert score(scorer, MBPP, "def add(a, b):\n    while True: pass").value == 0.0


@pytest.mark.parametrize("params", [{"test": "x"}, {"tests": "x", "seconds": 0}, {"tests": ""}, {}])
def test_parameters_are_checked(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_scorer({"type": "code", **params}, where="case")


def test_a_skill_needs_a_sandbox_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "items.jsonl", [{**MBPP, "id": n, "text": f"Write add, {n}."} for n in range(4)])
    use = {
        "name": "adding",
        "data": {"path": "items.jsonl", "id": "id"},
        "prompt": "{{ text }}",
        "scorer": {"type": "code", "tests": "test_list"},
        "items": {"search": 2, "held_out": 2},
    }
    skill = load_skill(use, folder=tmp_path)
    monkeypatch.setattr(choice, "weakness", lambda level: "not here")
    choice._found.cache_clear()
    try:
        with pytest.raises(SkillError, match="there is no sandbox on this machine") as caught:
            prepare(skill, seed=0)
    finally:
        choice._found.cache_clear()
    assert caught.value.where == "adding" and "bubblewrap" in (caught.value.hint or "")
