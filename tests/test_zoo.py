"""The zoo's own promises: disjoint and unique items, a faithful tokenizer, a content key, a folder that is whole."""

import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge import zoo
from automerge.zoo import items, train

QUICK = dataclasses.replace(
    zoo.Settings(),
    width=16,
    layers=1,
    heads=2,
    batch=4,
    items=20,
    base=dataclasses.replace(zoo.Settings().base, steps=2),
    fine_tunes={name: dataclasses.replace(made, steps=1) for name, made in zoo.Settings().fine_tunes.items()},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.prepare(tmp_path_factory.mktemp("cache"), settings=QUICK)


@pytest.mark.parametrize("skill", items.SKILLS)
def test_evaluation_items_are_unique_short_and_stable(skill: str) -> None:
    rows = items.evaluation_items(skill, 600)
    assert len({row.prompt for row in rows}) == 600
    assert rows[:50] == items.evaluation_items(skill, 50)
    assert max(len(row.answer) for row in rows) < 10  # with its end it fits in the skill files' max_tokens
    assert all(len(row.prompt) + len(row.careless) + 1 <= train.CONTEXT for row in rows)


@pytest.mark.parametrize("skill", items.SKILLS)
def test_training_text_never_holds_an_evaluation_prompt(skill: str) -> None:
    forbidden = frozenset(item.prompt for item in items.evaluation_items(skill, 600))
    texts = [items.Text(skill, 1.0, 0.5)]
    unfiltered = items.training_rows(random.Random(1), 3000, texts=texts, forbidden=frozenset())
    assert any(prompt in forbidden for prompt, _ in unfiltered)  # so the next line can fail
    rows = items.training_rows(random.Random(1), 3000, texts=texts, forbidden=forbidden)
    assert not any(prompt in forbidden for prompt, _ in rows)


def test_every_training_batch_excludes_every_evaluation_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    encode = train.encode

    def watch(tokenizer: object, rows: train.Rows) -> tuple[torch.Tensor, torch.Tensor]:
        seen.update(prompt for prompt, _ in rows)
        return encode(tokenizer, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "encode", watch)
    made = zoo.prepare(tmp_path, settings=dataclasses.replace(QUICK, batch=200))
    kept = {row["prompt"] for skill in items.SKILLS for row in read(made, skill)}
    assert len(seen) > 500
    assert not seen & kept


@pytest.mark.parametrize("skill", items.SKILLS)
def test_careless_answers_differ_where_care_matters(skill: str) -> None:
    rows = items.evaluation_items(skill, 1000)
    assert sum(item.answer != item.careless for item in rows) > 500


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [(f"'{word}'[::-1]=", word[::-1]) for word in ("abcd", "zyxwv")] + [("max('kzb')=", "z"), ("'ab'+'cde'=", "abcde")],
)
def test_coding_answers_are_what_python_says(prompt: str, answer: str) -> None:
    assert eval(prompt[:-1]) == answer


def test_coding_and_math_items_hold() -> None:
    for item in items.evaluation_items("coding", 300):
        assert str(eval(item.prompt[:-1])) == item.answer
    for item in items.evaluation_items("math", 300):
        if item.prompt.startswith("round("):
            n = int(item.prompt[6:-2])
            assert int(item.answer) == (n + 5) // 10 * 10
        else:
            assert eval(item.prompt[:-1]) == pytest.approx(float(item.answer))


@pytest.mark.parametrize(
    ("rule", "word", "form"),
    [
        (items.plural, "brix", "brixes"),
        (items.plural, "tady", "tadies"),
        (items.plural, "galf", "galves"),
        (items.plural, "flock", "flocks"),
        (items.past, "plan", "planned"),
        (items.past, "tope", "toped"),
        (items.past, "tady", "tadied"),
        (items.continuous, "tope", "toping"),
        (items.continuous, "tady", "tadying"),
        (items.continuous, "land", "landing"),
    ],
)
def test_english_endings(rule: object, word: str, form: str) -> None:
    assert rule(word) == form  # type: ignore[operator]


def test_ordinals() -> None:
    assert [items.ordinal(n) for n in (1, 2, 3, 4, 11, 112, 21)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "112th", "21st"),
    ]


def test_the_folder_is_whole_and_loads(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["base", "coding", "data", "math", "writing"]
    for name in ("base", *items.SKILLS):
        model = AutoModelForCausalLM.from_pretrained(folder / name)
        assert type(model).__name__ == "LlamaForCausalLM"
        assert model.dtype == torch.float32
        tokenizer = AutoTokenizer.from_pretrained(folder / name)
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert not [path for path in folder.parent.iterdir() if ".part-" in path.name]


def test_the_tokenizer_gives_the_text_back(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    text = "'ab'[::-1]= max(12, 3)  a , b\n-(-7)="
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.decode([*tokens, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert tokenizer.chat_template is None
    assert tokenizer("é")["input_ids"] == [tokenizer.unk_token_id]


def test_only_the_answer_and_its_end_are_learnt() -> None:
    tokenizer = train.build_tokenizer()
    tokens, targets = train.encode(tokenizer, [("1+1=", "2"), ("1=", "1")])
    assert tokens.shape == (2, 6)
    assert tokenizer.decode(targets[0][targets[0] != train.UNSCORED]) == "2<eos>"
    assert tokenizer.decode(targets[1][targets[1] != train.UNSCORED]) == "1<eos>"


def test_a_second_call_trains_nothing(folder: Path) -> None:
    def fail(stage: str, done: int, total: int) -> None:
        raise AssertionError(stage)

    assert zoo.prepare(folder.parents[1], progress=fail, settings=QUICK) == folder


def test_progress_names_every_checkpoint(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    zoo.prepare(tmp_path, lambda *call: calls.append(call), QUICK)
    assert calls == [
        ("training base", 2, 2),
        ("training math", 1, 1),
        ("training coding", 1, 1),
        ("training writing", 1, 1),
    ]


def test_same_settings_same_bytes_and_global_random_state_untouched(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = zoo.prepare(tmp_path, settings=QUICK)
    assert torch.equal(torch.random.get_rng_state(), before)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_the_key_follows_the_settings() -> None:
    assert zoo.Settings().key() == zoo.Settings().key()
    assert len({zoo.Settings().key(), QUICK.key(), dataclasses.replace(QUICK, seed=1).key()}) == 3


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path))
    assert zoo.prepare(settings=QUICK) == tmp_path / "zoo" / QUICK.key()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.prepare(tmp_path, stop, QUICK)
    assert not list((tmp_path / "zoo").iterdir())


def test_losing_the_race_uses_the_winner_and_cleans_up(tmp_path: Path) -> None:
    final = tmp_path / "zoo" / QUICK.key()

    def another_finishes(stage: str, done: int, total: int) -> None:
        (final / "base").mkdir(parents=True, exist_ok=True)

    assert zoo.prepare(tmp_path, another_finishes, QUICK) == final
    assert [path.name for path in final.parent.iterdir()] == [final.name]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / "zoo" / f"{QUICK.key()}.part-{os.getpid()}"
    (left / "stale").mkdir(parents=True)
    assert not (zoo.prepare(tmp_path, settings=QUICK) / "stale").exists()


def read(folder: Path, skill: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "data" / f"{skill}.jsonl").read_text().splitlines()]


def test_data_files_hold_id_prompt_and_answer(folder: Path) -> None:
    for skill in items.SKILLS:
        rows = read(folder, skill)
        assert len({row["id"] for row in rows}) == QUICK.items
        assert rows[0].keys() == {"id", "prompt", "answer"}
        assert rows[0]["id"] == f"{skill}-0001"
