"""Rows, templates and splits: what comes out, and what every bad input says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automerge.errors import SkillError
from automerge.evals import Item, choose, prepare
from automerge.evals.items import load_items
from automerge.evals.rows import load_rows
from automerge.evals.skill import Data
from automerge.evals.template import render
from tests.evals.helpers import loaded, skill, sums, write_rows


def items(count: int) -> list[Item]:
    return [Item(f"i{n}", f"prompt {n}", "t", {}) for n in range(count)]


# --- splits ------------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.data())
@settings(deadline=None)
def test_halves_are_disjoint_and_independent_of_order(count: int, data: Any) -> None:
    search = data.draw(st.integers(0, count - 1))
    held_out = data.draw(st.one_of(st.just("all"), st.integers(0, count - search)))
    shuffled = data.draw(st.permutations(items(count)))
    split = choose(shuffled, search, held_out, seed=7)
    assert split == choose(items(count), search, held_out, seed=7)
    assert not {item.id for item in split.search} & {item.id for item in split.held_out}
    assert len(split.search) == search
    assert len(split.held_out) == (count - search if held_out == "all" else held_out)


def test_more_search_items_extend_the_same_ones() -> None:
    few, many = choose(items(50), 10, 20, seed=1), choose(items(50), 25, 20, seed=1)
    assert many.search[:10] == few.search and many.held_out == few.held_out
    assert choose(items(50), 10, 20, seed=2) != few


def test_items_with_one_prompt_count_once() -> None:
    doubled = items(10) + [Item(f"again{n}", f"prompt {n}", "u", {}) for n in range(10)]
    split = choose(doubled, 5, "all", seed=3)
    prompts = [item.prompt for item in split.search + split.held_out]
    assert len(prompts) == len(set(prompts)) == 10
    with pytest.raises(SkillError, match=r"asked for 8 search and 8 held-out items, but there are 10 \(10 more repeat"):
        choose(doubled, 8, 8, seed=3)


def test_all_means_at_least_one() -> None:
    with pytest.raises(SkillError, match="asked for 10 search and all held-out items, but there are 10"):
        choose(items(10), 10, "all", seed=0)


def test_same_split_and_hash_in_another_process(tmp_path: Path) -> None:
    here = loaded(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tests.evals.helpers import loaded\n"
        "s = loaded(Path(sys.argv[1])); print(s.hash, *[i.id for i in s.split.search + s.split.held_out])"
    )
    for seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.split() == [here.hash, *[item.id for item in here.split.search + here.split.held_out]]


# --- the hash ----------------------------------------------------------------------------------------------------


def test_the_hash_covers_what_decides_scores_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    plain = loaded(tmp_path).hash
    assert loaded(tmp_path / "elsewhere").hash == plain
    assert loaded(tmp_path, about="text", source="text", licence="MIT", name="other").hash == plain
    changes: list[dict[str, Any]] = [
        {"prompt": "{{ question }} is "},
        {"target": "{{ answer + 1 }}"},
        {"scorer": {"type": "numeric", "calculator": True}},
        {"scorer": {"type": "exact"}},
        {"sampling": {"max_tokens": 3}},
        {"items": {"search": 9, "held_out": 5}},
        {"items": {"search": 10, "held_out": 4}},
        {"block": 5},
        {"few_shot": [{"question": "1 + 1", "answer": 2}]},
        {"chat": True},
        {"seed": 1},
        {"count": 21},
    ]
    hashes = [loaded(tmp_path, **change).hash for change in changes]
    assert len({plain, *hashes}) == len(changes) + 1


# --- prompts -----------------------------------------------------------------------------------------------------


def test_prompts(tmp_path: Path) -> None:
    shots = [{"question": "1 + 1", "answer": 2}]
    first = load_items(skill(tmp_path))[0]
    assert (first.prompt, first.target) == ("0 + 0 = ", "0")
    plain = load_items(skill(tmp_path, few_shot=shots))[0]
    assert plain.prompt == "1 + 1 = 2\n\n0 + 0 = "
    chat = load_items(skill(tmp_path, chat=True, few_shot=shots, system="Add."))[0]
    assert [m["role"] for m in chat.prompt if isinstance(m, dict)] == ["system", "user", "assistant", "user"]
    assert chat.prompt[-1] == {"role": "user", "content": "0 + 0 = "}


def test_ids(tmp_path: Path) -> None:
    by_field = load_items(skill(tmp_path, data={"path": "sums.jsonl", "id": "id"}))
    assert [item.id for item in by_field[:2]] == ["q0", "q1"]
    assert len({item.id for item in load_items(skill(tmp_path))}) == 20


# --- bad input ---------------------------------------------------------------------------------------------------

GOOD = '{"question": "1 + 1", "answer": 2}\n'


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (b"", {}, "the dataset is empty"),
        (b"\n\n", {}, "the dataset is empty"),
        (GOOD + "{broken\n", {}, "line 2: not valid JSON"),
        (GOOD + "[1, 2]\n", {}, "line 2: expected an object with the item's fields, got list"),
        (GOOD.encode() + b'{"question": "\xff"}\n', {}, "line 2: not valid UTF-8"),
        (GOOD + '{"question": "1 + 2"}\n', {}, "'answer' is undefined; the row has: question"),
        (GOOD + '{"question": "1 + 2", "answer": null}\n', {}, "a value that is null; null here: answer"),
        (GOOD + '{"question": " ", "answer": 2}\n', {"prompt": "{{ question }}"}, "row 2 of"),
        (GOOD + '{"question": " ", "answer": 2}\n', {"prompt": "{{ question }}"}, "the user message is empty"),
        (GOOD, {"target": " {{ '' }} "}, "the target has no number"),
        (GOOD, {"target": " ", "scorer": {"type": "exact"}}, "the target is empty"),
        (GOOD, {"prompt": "{{ qestion }}"}, "'qestion' is undefined; the row has: question, answer"),
        (GOOD, {"prompt": "{{ question.__class__.__mro__ }}"}, "the template was refused"),
        (GOOD, {"prompt": "{{ ''.__class__ }}"}, "the template was refused"),
        (GOOD, {"prompt": "{{ '{0.__class__}'.format(question) }}"}, "the template was refused"),
        (GOOD, {"prompt": "{{ question / 2 }}"}, "the template failed: TypeError"),
        (GOOD, {"prompt": r"{{ '\ud83d' ~ question }}"}, "the template failed: UnicodeEncodeError"),
        (GOOD, {"few_shot": [{"question": "1 + 2"}]}, "sums: example 1 of few_shot: the template needs a field"),
        (GOOD, {"prompt": "{% for i in range(999999999) %}x{% endfor %}"}, "Range too big"),
        (GOOD * 2, {"data": {"path": "rows.jsonl", "id": "answer"}}, "two rows have the id '2'"),
        (GOOD, {"data": {"path": "rows.jsonl", "id": "key"}}, "no field 'key' (data.id)"),
        (
            '{"question": "1", "answer": 1, "id": null}',
            {"data": {"path": "rows.jsonl", "id": "id"}},
            "(data.id) is null",
        ),
        ('{"question": ' + "[" * 900 + "]" * 900 + "}", {}, "line 1: expected at most 100 levels"),
        (GOOD * 30, {}, "asked for 10 search and 5 held-out items, but there are 1"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str | bytes, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SkillError) as caught:
        loaded(tmp_path, **({"data": {"path": "rows.jsonl"}} | changes))
    assert message in str(caught.value)
    assert caught.value.where


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.jsonl", "no such file"),
        (".", "got a folder"),
        ("rows.csv", "expected .jsonl, .json or .parquet, got .csv"),
    ],
)
def test_bad_paths(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(SkillError, match=message):
        loaded(tmp_path, data={"path": path})


def test_a_second_file_is_joined_by_ids_as_items_have_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "more.jsonl", [{"id": "1", "note": "one"}, {"id": [2], "note": "two"}])
    write_rows(tmp_path / "rows.jsonl", [{"id": 1, "question": "1 + 1"}, {"id": [2], "question": "2 + 2"}])
    rows = load_rows(Data(path=str(tmp_path / "rows.jsonl"), join=str(tmp_path / "more.jsonl"), id="id"))
    assert [row["note"] for row in rows] == ["one", "two"] and rows[0]["id"] == 1


def test_a_template_cannot_change_its_row() -> None:
    row = {"tests": [1]}
    with pytest.raises(SkillError, match="refused"):
        render("{{ tests.append(2) }}", row, "here")
    assert row == {"tests": [1]}


def test_calculator_marks_go() -> None:
    assert render("{{ a | without_calculator_marks }}", {"a": "48/2 = <<48/2=24>>24"}, "") == "48/2 = 24"


# --- kinds of file -----------------------------------------------------------------------------------------------


def test_json_list_and_parquet_give_the_same_items(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    lines = load_items(skill(tmp_path))
    (tmp_path / "sums.json").write_text(json.dumps(sums(20)))
    datasets.Dataset.from_list(sums(20)).to_parquet(str(tmp_path / "sums.parquet"))
    before = sorted(path.name for path in tmp_path.iterdir())
    for name in ("sums.json", "sums.parquet"):
        assert load_items(skill(tmp_path, data={"path": name})) == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "nothing is cached beside the data"


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SkillError, match="not a readable Parquet file"):
        loaded(tmp_path, data={"path": "rows.parquet"})


def test_a_hub_dataset_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(SkillError, match=r"cannot be loaded.*Couldn't reach the Hub") as caught:
        loaded(tmp_path, data={"hub": "nobody/nothing", "split": "test"})
    assert caught.value.hint and "data: {path: items.jsonl}" in caught.value.hint


def test_unhashed_rows_can_be_anything_json_holds(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "rows.jsonl", [{"question": f"{n}\ud83d\ude00", "answer": n, "extra": [None]} for n in range(15)]
    )
    assert prepare(skill(tmp_path, data={"path": "rows.jsonl"}), 0).hash
