"""Asking and scoring: blocks, the cache, stopping, unscored items; the store under kill -9 and bad files."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automerge.engine.fake import FakeEngine
from automerge.errors import EngineError, SkillError, StudyError
from automerge.evals import AnswerStore, evaluate, evaluate_all, mean
from automerge.evals.scorers.numeric import Numeric
from automerge.evals.store import APPLICATION_ID
from automerge.evals.stored import Stored
from automerge.records import LogLikelihood, Prompt, Score
from tests.evals.helpers import calculator, loaded, serving


def asked(engine: FakeEngine) -> list[int]:
    """The sizes of the blocks the engine was given."""
    return [count for method, count in engine.calls if method != "apply"]


def test_blocks_scores_and_progress(tmp_path: Path) -> None:
    skill, store = loaded(tmp_path), AnswerStore()
    engine, checksum = serving(FakeEngine(lambda recipe, prompt: "4"))
    seen: list[tuple[Any, ...]] = []
    results = evaluate(engine, checksum, skill, "search", store, on_block=lambda *args: seen.append(args))
    assert [result.item for result in results] == [item.id for item in skill.split.search]
    assert all((result.score.value == 1) == (result.prompt == "2 + 2 = ") for result in results)
    assert asked(engine) == [4, 4, 2]
    assert [(name, done, total) for name, done, total, _, _ in seen] == [
        ("sums", 4, 10),
        ("sums", 8, 10),
        ("sums", 10, 10),
    ]
    assert {result.tokens for result in results} == {1}


def test_what_is_beyond_the_context_is_unscored(tmp_path: Path) -> None:
    """The items around it count, in the blocks they were in."""

    class Narrow(FakeEngine):
        def misfit(self, prompt: Prompt, then: Any) -> str | None:
            return "exceeds the context" if prompt.text in long else None

    skill, store = loaded(tmp_path), AnswerStore()
    long = {str(item.prompt) for item in skill.split.search[1:6]}
    engine, checksum = serving(Narrow(calculator))
    results = evaluate(engine, checksum, skill, "search", store)
    assert [result.score.value for result in results] == [1, *[None] * 5, *[1] * 4]
    assert {result.score.detail for result in results[1:6]} == {"exceeds the context"}
    assert asked(engine) == [1, 2, 2]
    assert mean(results) == (1.0, 5)
    long = {str(item.prompt) for item in skill.split.search}
    with pytest.raises(SkillError, match="not one of 10 items could be scored: exceeds the context"):
        evaluate(engine, checksum, loaded(tmp_path), "search", AnswerStore())
    assert asked(engine) == [1, 2, 2], "a block of which nothing fits is not asked"


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    with AnswerStore(tmp_path / "answers.db") as store:
        first = evaluate(engine, checksum, loaded(tmp_path), "search", store)
    calls = len(engine.calls)
    with AnswerStore(tmp_path / "answers.db") as store:
        assert evaluate(engine, checksum, loaded(tmp_path), "search", store) == first
        # Another scorer scores the same answers anew; weights and half are different questions.
        assert len(evaluate(engine, checksum, loaded(tmp_path, scorer={"type": "exact"}), "search", store)) == 10
        assert len(engine.calls) == calls
        evaluate(engine, checksum, loaded(tmp_path), "held_out", store)
        assert asked(engine)[3:] == [4, 1]
        engine, other = serving(engine, weight=0.25)
        evaluate(engine, other, loaded(tmp_path), "search", store)
        assert asked(engine)[5:] == [4, 4, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": {"max_tokens": 9}},
        {"prompt": "{{ question }} =  "},
        {"few_shot": [{"question": "1 + 1", "answer": 2}]},
    ],
)
def test_another_question_is_asked(tmp_path: Path, changes: dict[str, Any]) -> None:
    engine, checksum = serving(FakeEngine(lambda recipe, prompt: "4"))
    store = AnswerStore()
    evaluate(engine, checksum, loaded(tmp_path), "search", store)
    evaluate(engine, checksum, loaded(tmp_path, **changes), "search", store)
    assert asked(engine) == [4, 4, 2] * 2


def test_another_engine_is_asked(tmp_path: Path) -> None:
    store, skill = AnswerStore(), loaded(tmp_path)
    for fingerprint in ("fake 1", "fake 2"):
        engine, checksum = serving(FakeEngine(calculator, fingerprint=fingerprint))
        evaluate(engine, checksum, skill, "search", store)
        assert asked(engine) == [4, 4, 2]


def test_an_interrupted_run_goes_on_at_its_block(tmp_path: Path) -> None:
    whole, checksum = serving(FakeEngine(calculator))
    expected = evaluate(whole, checksum, loaded(tmp_path), "search", AnswerStore())
    store = AnswerStore()
    engine, checksum = serving(FakeEngine(calculator, fail={2: EngineError("the engine died")}))
    with pytest.raises(EngineError, match="the engine died"):
        evaluate(engine, checksum, loaded(tmp_path), "search", store)
    assert len(store.results(checksum, "sums")) == 4, "the first block is there, whole"
    assert evaluate(engine, checksum, loaded(tmp_path), "search", store) == expected
    assert asked(engine) == [4, 4, 4, 2]


def test_a_block_with_one_answer_missing_is_asked_whole(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    with AnswerStore(tmp_path / "answers.db") as store:
        first = evaluate(engine, checksum, loaded(tmp_path), "search", store)
        store._db.execute("DELETE FROM answers WHERE prompt = ?", (first[5].prompt,))
        assert evaluate(engine, checksum, loaded(tmp_path), "search", store) == first
    assert asked(engine) == [4, 4, 2, 4]


def test_likelihood(tmp_path: Path) -> None:
    def logprobs(_: object, prompt: str, continuation: str) -> list[float]:
        return [math.log(0.25)] if prompt == "2 + 2 = " else [math.log(0.5), math.log(0.125)]

    skill, store = loaded(tmp_path, scorer={"type": "likelihood"}), AnswerStore()
    engine, checksum = serving(FakeEngine(logprobs=logprobs))
    results = evaluate(engine, checksum, skill, "search", store)
    assert {method for method, _ in engine.calls} == {"apply", "loglikelihood"}
    assert all(result.score.value == pytest.approx(0.25) for result in results)
    assert results[0].answer == skill.split.search[0].target and results[0].tokens == 0
    assert sorted(store.results(checksum, "sums"), key=lambda r: r.item) == sorted(results, key=lambda r: r.item)


def test_unscored_is_not_zero(tmp_path: Path) -> None:
    def logprobs(_: object, prompt: str, continuation: str) -> list[float]:
        return [math.nan] if int(prompt.split(" ")[0]) % 2 else [0.0]

    skill = loaded(tmp_path, scorer={"type": "likelihood"}, items={"search": 20, "held_out": 0})
    engine, checksum = serving(FakeEngine(logprobs=logprobs))
    store = AnswerStore()
    results = evaluate(engine, checksum, skill, "search", store)
    assert mean(results) == (1.0, 10)
    again = evaluate(engine, checksum, skill, "search", store)
    assert [result.score for result in again] == [result.score for result in results]


def test_nothing_scored_is_an_error(tmp_path: Path) -> None:
    skill = loaded(tmp_path, scorer={"type": "likelihood"})
    engine, checksum = serving(FakeEngine(logprobs=lambda *_: [math.nan]))
    with pytest.raises(
        SkillError, match="not one of 10 items could be scored: a log-probability is not a number"
    ) as caught:
        evaluate(engine, checksum, skill, "search", AnswerStore())
    assert caught.value.where == "sums: search"
    with pytest.raises(SkillError, match="no items in this half"):
        evaluate(engine, checksum, loaded(tmp_path, items={"search": 0, "held_out": 3}), "search", AnswerStore())


def test_no_chat_template(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator, chat=False))
    with pytest.raises(SkillError, match="no chat template") as caught:
        evaluate(engine, checksum, loaded(tmp_path, chat=True), "search", AnswerStore())
    assert caught.value.where and caught.value.where.startswith("sums: item ")


def test_an_engine_that_answers_too_little(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    engine.generate = lambda prompts, sampling: []  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="expected 4 answers, got 0"):
        evaluate(engine, checksum, loaded(tmp_path), "search", AnswerStore())


def test_several_skills_share_answers(tmp_path: Path) -> None:
    one, two = loaded(tmp_path, name="one"), loaded(tmp_path, name="two", scorer={"type": "exact"})
    engine, checksum = serving(FakeEngine(calculator))
    store = AnswerStore()
    results = evaluate_all(engine, checksum, [one, two], "search", store)
    assert list(results) == ["one", "two"] and asked(engine) == [4, 4, 2]
    assert store.models() == {checksum: ["one", "two"]}
    assert len(store.results(checksum, "one")) == len(store.results(checksum, "two")) == 10


def test_prompts_are_rendered_once(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    encoded: list[str] = []
    encode = engine.encode
    engine.encode = lambda text: encoded.append(text) or encode(text)  # type: ignore[method-assign,func-returns-value]
    skill = loaded(tmp_path)
    for tokenizer in ("base", "base", "math"):
        evaluate(engine, checksum, skill, "search", AnswerStore(), tokenizer=tokenizer)
    assert len(encoded) == 20


# --- the file ----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.evals.helpers import calculator, loaded, serving
from automerge.engine.fake import FakeEngine
from automerge.evals import AnswerStore, evaluate

folder, when = Path(sys.argv[1]), sys.argv[2]
store = AnswerStore(folder / "answers.db")
if when == "in the transaction":
    # After the block's rows went in, before they are committed.
    def kill(sql):
        if done and sql.startswith("COMMIT"):
            os.kill(os.getpid(), signal.SIGKILL)

    store._db.set_trace_callback(kill)
done = []
engine, checksum = serving(FakeEngine(calculator))
def on_block(*_):
    done.append(1)
    if when == "after a block":
        os.kill(os.getpid(), signal.SIGKILL)
evaluate(engine, checksum, loaded(folder), "search", store, on_block=on_block)
"""


@pytest.mark.parametrize("when", ["after a block", "in the transaction"])
def test_kill_9_leaves_whole_blocks(tmp_path: Path, when: str) -> None:
    loaded(tmp_path)
    root = Path(__file__).parents[2]
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), when],
        env=os.environ | {"PYTHONPATH": str(root)},
        timeout=60,
    ).returncode
    assert code == -signal.SIGKILL
    engine, checksum = serving(FakeEngine(calculator))
    with AnswerStore(tmp_path / "answers.db") as store:
        assert len(store.results(checksum, "sums")) == 4
        assert len(evaluate(engine, checksum, loaded(tmp_path), "search", store)) == 10
    assert asked(engine) == [4, 2]


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    with AnswerStore(tmp_path / "answers.db") as one, AnswerStore(tmp_path / "answers.db") as two:
        evaluate(engine, checksum, loaded(tmp_path), "search", one)
        evaluate(engine, checksum, loaded(tmp_path), "search", two)
        assert asked(engine) == [4, 4, 2]
        assert one._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert one._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database " * 100)
    with pytest.raises(StudyError, match="not a sound answer store"):
        AnswerStore(tmp_path / "text.db")
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE trials (x)")
    foreign.close()
    with pytest.raises(StudyError, match="a database, but not one of automerge's answer stores"):
        AnswerStore(tmp_path / "foreign.db")
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.executescript(f"CREATE TABLE t (x); PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StudyError, match="expected answer store format 1, got 99"):
        AnswerStore(tmp_path / "newer.db")
    with pytest.raises(StudyError, match="cannot be used") as caught:
        AnswerStore(tmp_path / "gone" / "answers.db")
    assert str(tmp_path / "gone") in str(caught.value)


def test_a_file_damaged_later(tmp_path: Path) -> None:
    engine, checksum = serving(FakeEngine(calculator))
    path = tmp_path / "answers.db"
    with AnswerStore(path) as store:
        evaluate(engine, checksum, loaded(tmp_path), "search", store)
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StudyError, match="not a sound answer store"), AnswerStore(path) as store:
        evaluate(engine, checksum, loaded(tmp_path), "search", store)


def test_what_is_stored_first_stands() -> None:
    store, key = AnswerStore(), bytes(32)
    for value in (-1.0, -2.0):
        store.write([Stored(key, "c", "p", "t", LogLikelihood((value,)), 0.1)], [])
    assert store.answers([key]) == {key: LogLikelihood((-1.0,))}


def test_what_was_unscored_is_scored_later_and_then_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that failed once leaves no hole for ever; a score stays as it is."""
    engine, checksum = serving(FakeEngine(calculator))
    skill, path = loaded(tmp_path), tmp_path / "answers.db"
    right, first = Numeric.score_text, skill.split.search[0].target
    for value in (None, 0.25, 0.5):
        with monkeypatch.context() as patch, AnswerStore(path) as store:
            patch.setattr(
                Numeric,
                "score_text",
                lambda self, text, target, value=value: Score(value) if text == first else right(self, text, target),
            )
            results = evaluate(engine, checksum, skill, "search", store)
            wanted = 0.25 if value == 0.5 else value
            assert [r.score.value for r in results if r.answer == first] == [wanted]
            assert [r.score.value for r in store.results(checksum, "sums") if r.answer == first] == [wanted]
    assert asked(engine) == [4, 4, 2]
