"""The shipped skills on the real items of ../shared (or AUTOMERGE_SHARED); skipped where those are not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from automerge.evals import LoadedSkill, load_skill, prepare
from automerge.evals.scorers import make_scorer
from automerge.records import Completion

SHARED = Path(os.environ.get("AUTOMERGE_SHARED", Path(__file__).parents[3] / "shared")).absolute()
FILES = {
    "gsm8k": "gsm8k_test",
    "svamp": "svamp_test",
    "mbpp": "mbpp_test",
    "mbpp_likelihood": "mbpp_test",
    "humaneval": "humaneval",
    "humaneval_chat": "humaneval",
    "writing": "writing_self_instruct",
}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real items at {SHARED}; set AUTOMERGE_SHARED"),
]


def real(name: str, **changes: Any) -> LoadedSkill:
    use = {"use": name, "data": {"path": str(SHARED / "data" / f"{FILES[name]}.jsonl")}, **changes}
    return prepare(load_skill(use, folder=Path(), name=name), seed=0)


@pytest.mark.parametrize("name", sorted(FILES))
def test_real_items_load_and_split(name: str) -> None:
    skill = real(name)
    assert len(skill.split.search) == skill.skill.items.search
    assert len(skill.split.held_out) >= (86 if not name.startswith("humaneval") else 18)
    for item in skill.split.search + skill.split.held_out:
        if name == "humaneval":
            assert item.prompt == item.fields["prompt"]
        else:
            assert isinstance(item.prompt, tuple) and item.prompt[-1]["role"] == "user"
        assert "<<" not in item.target or name != "gsm8k"


def test_svamp_takes_the_hubs_fields_as_well(tmp_path: Path) -> None:
    (tmp_path / "hub.jsonl").write_text('{"Body": "Tom has 3 pens.", "Question": "How many?", "Answer": "3"}\n')
    use = {"use": "svamp", "data": {"path": "hub.jsonl"}, "items": {"search": 1, "held_out": 0}}
    (item,) = prepare(load_skill(use, folder=tmp_path), seed=0).split.search
    assert (item.prompt, item.target) == (({"role": "user", "content": "Tom has 3 pens. How many?"},), "3")


def test_every_training_equation_is_understood() -> None:
    """Answers as the math expert was trained to write them: the equation, = value, then #### value."""
    scorer = make_scorer({"type": "numeric", "calculator": True, "tolerance": 0.06}, "")  # answers are rounded
    missed = []
    for line in (SHARED / "data" / "mawps_asdiv_train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = Completion(f"{row['equation']} = 0\n#### 0", 1, "stop")
        if scorer.score(answer, str(row["answer"])).value != 1:
            missed.append((row["equation"], row["answer"], scorer.score(answer, str(row["answer"])).detail))
    assert len(missed) <= 5, missed  # of 1500: the data's own slips


def test_gsm8k_solutions_score_themselves_right() -> None:
    use = {"use": "gsm8k", "data": {"path": str(SHARED / "data" / "gsm8k_test.jsonl")}, "scorer": {"type": "numeric"}}
    skill = prepare(load_skill(use, folder=Path()), seed=0)
    for item in skill.split.search + skill.split.held_out:
        assert skill.scorer.score(Completion(item.target, 1, "stop"), item.target).value == 1, item.target


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("mbpp", "[BEGIN]\n{code}\n"),
        ("humaneval", "{canonical_solution}"),
        ("humaneval_chat", "Here it is:\n\n```python\n{prompt}{canonical_solution}```\n\nIt does what it says."),
    ],
)
def test_published_solutions_pass_in_the_form_the_prompt_asks_for(name: str, answer: str) -> None:
    skill = real(name, items={"search": 12, "held_out": 0})
    answers = [Completion(answer.format(**item.fields), 1, "stop") for item in skill.split.search]
    scores = skill.scorer.score_block(answers, [item.target for item in skill.split.search])
    assert [score.value for score in scores] == [1.0] * 12, scores
