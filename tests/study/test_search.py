"""Whole studies over the scripted landscape: budget, baselines, resuming, verdict, refusals."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages._rdb import storage

from automerge.engine.fake import FakeEngine
from automerge.engine.share import Share
from automerge.errors import EngineError, MergeError, StudyBusy, StudyError, StudyMismatch
from automerge.evals.store import AnswerStore
from automerge.gate.verdict import Verdict
from automerge.recipe import Recipe
from automerge.study.events import Block, Ended, Event, Stage
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import Row, study_rows
from automerge.study.session import Plan, run_search
from automerge.study.store import open_study
from tests.study import worlds
from tests.study.worlds import make_world, plan_of, scripted

BASELINES = ["base", "coding", "math", "writing", "plain_average", "task_arithmetic", "dare_0.5", "dare_0.9"]


def run(
    config: Path, folder: Path, trials: int, listen: Callable[[Event], None] = lambda event: None
) -> tuple[Verdict, list[Row]]:
    place = StudyFolder(folder)
    verdict = run_search(plan_of(config), place, Budget(trials=trials), listen, start=lambda *_: scripted())
    study = open_study("world", place.storage)
    return verdict, study_rows(study)


def essence(rows: list[Row]) -> list[tuple[object, ...]]:
    """What must be the same in a resumed study: all but the times."""
    return [(r.number, r.label, r.state, dict(r.params), r.record and r.record.checksum, r.value) for r in rows]


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, list[Row]]:
    """A study of 15 trials that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    return run(make_world(folder / "world", models), folder / "out", 15)


def test_baselines_come_first_and_count(world: Path, tmp_path: Path) -> None:
    _, rows = run(world, tmp_path / "out", 12)
    assert [row.label for row in rows[:8]] == BASELINES
    assert len(rows) == 12
    assert all(row.state == "complete" for row in rows)
    assert set(rows[-1].params) == set(rows[0].params) != set()


def test_a_clock_that_jumps_changes_nothing(
    world: Path, tmp_path: Path, finished: tuple[Verdict, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna notes when a trial began and ended; an hour back at every look, in both of a study's runs."""

    class Jumping(datetime):
        looks = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Jumping":
            cls.looks += 1
            return cls(2026, 1, 1) - timedelta(hours=cls.looks)

    monkeypatch.setattr(storage, "datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: 1e9 - Jumping.looks)
    run(world, tmp_path / "out", 11)
    verdict, rows = run(world, tmp_path / "out", 15)
    assert Jumping.looks > 15
    assert essence(rows) == essence(finished[1])
    assert verdict.outcome == finished[0].outcome and verdict.rows == finished[0].rows


def test_the_base_model_judges_in_the_same_engine(models: Path, tmp_path: Path) -> None:
    """A study whose writing is rated by the base: what is not the base is never asked for a rating."""
    config = make_world(tmp_path / "world", models)
    use = "{use: skill.yaml, data: {path: writing.jsonl}"
    judged = config.read_text().replace(use, f"{use}, scorer: {{type: judge, judge: {{model: base, max_tokens: 9}}}}")
    config.write_text(judged.replace("margin: 0.1", "margin: 0.3"))

    def answer(recipe: Recipe, prompt: str) -> str:
        if "[[rating]]" not in prompt:
            return worlds.answer(recipe, prompt)
        weights = recipe.groups[0].values["weight"]
        assert isinstance(weights, dict)
        assert set(weights.values()) == {0.0}
        return f"[[{9 if 'yes' in prompt else 2}]]"

    def study(place: StudyFolder, trials: int) -> list[Row]:
        run_search(
            plan_of(config), place, Budget(trials=trials), lambda event: None, start=lambda *_: FakeEngine(answer)
        )
        return study_rows(open_study("world", place.storage))

    rows = study(StudyFolder(tmp_path / "whole"), 12)
    scores = {row.label: row.record.skills["writing"].mean for row in rows if row.record}
    assert scores["writing"] > scores["coding"] > 1 / 9
    study(StudyFolder(tmp_path / "resumed"), 9)
    assert essence(study(StudyFolder(tmp_path / "resumed"), 12)) == essence(rows)


def test_finalists_are_merged_with_other_mask_seeds(models: Path, tmp_path: Path) -> None:
    config = make_world(tmp_path / "world", models, "verdict: {candidates: 2, seeds: 3}\n")
    seeds: list[int] = []

    def answer(recipe: Recipe, prompt: str) -> str:
        """A lucky mask: the study's own seed answers a fifth more of the items right."""
        seeds.append(recipe.seed)
        return "yes" if recipe.seed == 0 and prompt.endswith(("1", "2")) else worlds.answer(recipe, prompt)

    place = StudyFolder(tmp_path / "out")
    stages: list[Stage] = []
    verdict = run_search(
        plan_of(config),
        place,
        Budget(trials=12),
        lambda event: stages.append(event) if isinstance(event, Stage) else None,
        start=lambda *_: FakeEngine(answer),
    )
    assert set(seeds) == {0, 1, 2}
    dropping = [judged for judged in verdict.judged if judged.over_seeds]
    assert dropping and all(len(judged.over_seeds) == 3 for judged in dropping)
    for judged in dropping:
        assert judged.over_seeds[0] > max(judged.over_seeds[1:])
        assert "over 3 mask seeds" in judged.reason
    assert stages[-1] == Stage("proving", len(verdict.rows) + 2 * len(dropping))


def test_a_coarse_study_starts_a_finer_one(models: Path, tmp_path: Path, finished: tuple[Verdict, list[Row]]) -> None:
    coarse = tmp_path / "coarse"
    _, rows = run(make_world(tmp_path / "world", models), coarse, 15)
    fine = make_world(tmp_path / "fine", models, f"groups: {{blocks: 2}}\nstart_from: {coarse}\n")
    _, found = run(fine, tmp_path / "out", 15)
    best = sorted((r for r in rows if not r.is_baseline), key=lambda r: -(r.value or 0))[:3]
    assert [(r.value, r.record and r.record.checksum) for r in found[8:11]] == [
        (r.value, r.record and r.record.checksum) for r in best
    ]
    shutil.rmtree(coarse)
    with pytest.raises(StudyError, match="no study in this folder"):
        plan_of(fine)
    fine.write_text(fine.read_text().replace(f"start_from: {coarse}\n", ""))
    assert essence(run(fine, tmp_path / "out", 16)[1])[:15] == essence(found)  # what was taken is held


def test_a_coarse_study_that_saw_the_held_out_items_starts_nothing(models: Path, tmp_path: Path) -> None:
    """Its best were chosen by them."""
    run(make_world(tmp_path / "world", models), tmp_path / "coarse", 3)
    fine = make_world(tmp_path / "fine", models, f"start_from: {tmp_path / 'coarse'}\nseed: 7\n")
    with pytest.raises(StudyError, match=r"search was scored on \d+ of the 120 held-out items of math") as raised:
        plan_of(fine)
    assert "the same seed" in (raised.value.hint or "")


def test_what_one_skill_asks_in_the_search_is_held_out_of_no_other(models: Path, tmp_path: Path) -> None:
    """Two skills over the same rows, each in its own words and order."""
    config = make_world(tmp_path, models)
    text = (tmp_path / "skill.yaml").read_text()
    asked = (
        text.replace("{{ prompt }}", "Please: {{ prompt }}").replace(", id: id", "").replace("search: 40", "search: 60")
    )
    (tmp_path / "asked.yaml").write_text(asked.replace("held_out: 120", "held_out: all"))
    other = "skills:\n  polite: {use: asked.yaml, data: {path: math.jsonl}}\n"
    config.write_text(config.read_text().replace("skills:\n", other))
    plan = plan_of(config)
    rows = {
        (name, half): {item.fields["id"] for item in skill.half(half)}
        for name, skill in plan.skills.items()
        for half in ("search", "held_out")
    }
    assert not rows["math", "held_out"] & rows["polite", "search"]
    assert not rows["polite", "held_out"] & rows["math", "search"]
    assert 60 <= len(rows["math", "held_out"]) < 120 and len(rows["polite", "held_out"]) < 100
    assert len(rows["coding", "held_out"]) == 120
    assert plan.skills["math"].hash != plan_of(make_world(tmp_path / "alone", models)).skills["math"].hash


def test_a_coarse_study_of_other_models_starts_nothing(models: Path, tmp_path: Path) -> None:
    run(make_world(tmp_path / "world", models), tmp_path / "coarse", 3)
    other = make_world(tmp_path / "other", models, f"start_from: {tmp_path / 'coarse'}\n")
    other.write_text(other.read_text().replace(f"math: {models}/math", f"math: {models}/coding"))
    with pytest.raises(StudyError, match="math differ"):
        plan_of(other)


def test_a_search_finds_the_better_merge_and_proves_it(world: Path, tmp_path: Path) -> None:
    verdict, rows = run(world, tmp_path / "out", 40)
    assert verdict.outcome == "PROMOTED", verdict.reason
    winner = next(j for j in verdict.judged if j.name == verdict.winner)
    assert winner.differences[winner.rival].low > 0
    assert all(gate.met for gate in winner.gates)
    assert {row.name for row in verdict.rows} >= set(BASELINES)
    assert len(verdict.judged) == 3
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["outcome"] == "PROMOTED"
    assert len(rows) == 40


def test_running_again_asks_nothing_anew(world: Path, tmp_path: Path) -> None:
    first, _ = run(world, tmp_path / "out", 14)
    engine = scripted()
    again = run_search(
        plan_of(world),
        StudyFolder(tmp_path / "out"),
        Budget(trials=14),
        lambda event: None,
        start=lambda *_: engine,
    )
    assert again == first
    assert engine.calls == []


def test_a_larger_budget_goes_on_and_counts_the_use_of_held_out_items(world: Path, tmp_path: Path) -> None:
    first, _ = run(world, tmp_path / "out", 12)
    second, rows = run(world, tmp_path / "out", 16)
    assert (first.use, second.use) == (1, 2)
    assert len(rows) == 16


class Killed(BaseException):
    """Stands for kill -9 in one process: nothing in the program catches it."""


def killing(blocks: int) -> Callable[[Event], None]:
    """Watches a study and kills it after so many blocks."""
    left = blocks

    def listen(event: Event) -> None:
        nonlocal left
        if isinstance(event, Block):
            left -= 1
            if left == 0:
                raise Killed

    return listen


@pytest.mark.parametrize("blocks", [1, 9, 51, 64, 91, 140])
def test_an_interrupted_study_proposes_what_an_uninterrupted_one_would(
    world: Path, tmp_path: Path, blocks: int, finished: tuple[Verdict, list[Row]]
) -> None:
    whole_verdict, whole = finished
    with pytest.raises(Killed):
        run(world, tmp_path / "cut", 15, killing(blocks))
    verdict, rows = run(world, tmp_path / "cut", 15)
    assert essence(rows) == essence(whole)
    assert verdict == whole_verdict


@pytest.mark.parametrize("suggested", [0, 1, 5])
@pytest.mark.parametrize("number", [9, 13])
def test_a_death_between_two_suggestions_changes_no_proposal(
    world: Path,
    tmp_path: Path,
    suggested: int,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    finished: tuple[Verdict, list[Row]],
) -> None:
    _, whole = finished
    real, count = optuna.Trial.suggest_float, 0

    def dying(trial: optuna.Trial, name: str, low: float, high: float, **more: Any) -> float:
        nonlocal count
        if trial.number == number:
            if count == suggested:
                raise Killed
            count += 1
        return real(trial, name, low, high, **more)

    monkeypatch.setattr(optuna.Trial, "suggest_float", dying)
    with pytest.raises(Killed):
        run(world, tmp_path / "cut", 15)
    monkeypatch.setattr(optuna.Trial, "suggest_float", real)
    _, rows = run(world, tmp_path / "cut", 15)
    assert essence(rows) == essence(whole)


def test_a_death_costs_one_block(world: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(world, tmp_path / "out", 12, killing(53))
    engine = scripted()
    run_search(
        plan_of(world), StudyFolder(tmp_path / "out"), Budget(trials=12), lambda e: None, start=lambda *_: engine
    )
    questions = [calls for method, calls in engine.calls if method == "generate"]
    search_blocks = 12 * 3 * 2  # candidates × skills × blocks
    held_out_blocks = (3 + 8) * 3 * 6
    assert len(questions) == search_blocks - 53 + held_out_blocks


def test_a_time_budget_ends_the_search(world: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    run_search(plan_of(world), folder, Budget(seconds=1e-6), lambda event: None, start=lambda *_: scripted())
    rows = study_rows(open_study("world", folder.storage))
    assert [row.label for row in rows if row.state == "complete"] == ["base"]


def test_a_failed_merge_is_a_failed_trial_and_the_study_goes_on(world: Path, tmp_path: Path) -> None:
    engine = scripted()
    engine._fail = {7: MergeError("values that are not finite")}  # the apply of the second candidate
    folder = StudyFolder(tmp_path / "out")
    run_search(plan_of(world), folder, Budget(trials=10), lambda event: None, start=lambda *_: engine)
    rows = study_rows(open_study("world", folder.storage))
    assert [row.state for row in rows].count("failed") == 1
    assert "not finite" in next(row.record.error for row in rows if row.state == "failed" and row.record)
    assert len(rows) == 10


def test_a_base_that_cannot_be_served_ends_the_study_and_is_tried_again(world: Path, tmp_path: Path) -> None:
    engine = scripted()
    engine._fail = {1: MergeError("no such head size")}
    folder = StudyFolder(tmp_path / "out")
    with pytest.raises(StudyError, match="the first candidate could not be merged or served: no such head size"):
        run_search(plan_of(world), folder, Budget(trials=10), lambda event: None, start=lambda *_: engine)
    _, rows = run(world, tmp_path / "out", 10)
    assert [row.state for row in rows] == ["complete"] * 10


def test_an_engine_that_served_nothing_may_be_another_next_time(world: Path, tmp_path: Path) -> None:
    """As when it had too little memory, and its settings are changed as the message says."""
    folder = StudyFolder(tmp_path / "out")

    def search(engine: FakeEngine, settings: str) -> None:
        config = world.with_name("other.yaml")
        config.write_text(world.read_text() + settings)
        run_search(plan_of(config), folder, Budget(trials=10), lambda event: None, start=lambda *_: engine)

    short, other = scripted(), scripted()
    short._fail = {0: EngineError("too little memory")}
    other._fingerprint = "fake 2"
    with pytest.raises(EngineError, match="too little memory"):
        search(short, "")
    changed = "engine: {arguments: {max_model_len: 64}}\n"
    search(other, changed)
    assert [row.state for row in study_rows(open_study("world", folder.storage))] == ["complete"] * 10
    for engine, settings in ((other, ""), (scripted(), changed)):
        engine.closed = False
        with pytest.raises(StudyMismatch, match=r"max_model_len|fake 2 → fake 1|fake 2.*fake 1"):
            search(engine, settings)


def test_an_engine_error_keeps_the_trial_for_the_next_run(world: Path, tmp_path: Path) -> None:
    engine = scripted()
    engine._fail = {20: EngineError("gone")}
    folder = StudyFolder(tmp_path / "out")
    with pytest.raises(EngineError):
        run_search(plan_of(world), folder, Budget(trials=10), lambda event: None, start=lambda *_: engine)
    assert engine.closed
    _, rows = run(world, tmp_path / "out", 10)
    assert [row.state for row in rows] == ["complete"] * 10


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("range: [0.0, 1.2]", "range: [0.0, 1.3]", "config.parameters.weight.range"),
        ("margin: 0.1", "margin: 0.2", "config.gates"),
        ("coding: 1, writing: 1", "coding: 2, writing: 1", "config.objective.coding"),
    ],
)
def test_a_changed_config_is_refused_with_the_difference(
    world: Path, tmp_path: Path, old: str, new: str, key: str
) -> None:
    run(world, tmp_path / "out", 9)
    assert old in world.read_text()
    world.write_text(world.read_text().replace(old, new))
    with pytest.raises(StudyMismatch, match=key) as error:
        run(world, tmp_path / "out", 9)
    assert any(difference[0].startswith(key) for difference in error.value.differences)


def test_changed_data_and_sources_are_refused(world: Path, tmp_path: Path, models: Path) -> None:
    run(world, tmp_path / "out", 9)
    data = world.parent / "math.jsonl"
    text = data.read_text()
    data.write_text(text.replace('"yes"', '"no"'))
    with pytest.raises(StudyMismatch, match=r"skill\.math"):
        run(world, tmp_path / "out", 9)
    data.write_text(text)
    world.write_text(world.read_text().replace(f"{models}/coding", f"{models}/writing", 1))
    with pytest.raises(StudyMismatch, match=r"model\.coding"):
        run(world, tmp_path / "out", 9)


def test_another_engine_is_refused(world: Path, tmp_path: Path) -> None:
    run(world, tmp_path / "out", 9)
    other = scripted()
    other._fingerprint = "fake 2"
    with pytest.raises(StudyMismatch, match=r"fake 1.*fake 2"):
        run_search(
            plan_of(world),
            StudyFolder(tmp_path / "out"),
            Budget(trials=9),
            lambda e: None,
            start=lambda *_: other,
        )


def test_a_second_driver_is_kept_out(world: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    folder.create()
    with folder.locked(), pytest.raises(StudyBusy):
        run(world, tmp_path / "out", 9)


def test_sqlite_outside_the_folder_has_one_driver_too(world: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    plan = plan_of(world)

    def begin(plan: Plan, share: Share) -> FakeEngine:
        with pytest.raises(StudyBusy):
            run_search(plan, StudyFolder(tmp_path / "two"), Budget(trials=9), lambda e: None, storage=url)
        return scripted()

    run_search(plan, StudyFolder(tmp_path / "one"), Budget(trials=9), lambda e: None, storage=url, start=begin)


def test_a_gates_reference_is_asked_in_each_folder(
    world: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Racing reads its item scores, which lie in the folder where it was asked."""
    world.write_text(world.read_text().replace("racing: false", "racing: true"))
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for folder, budget in (("one", 9), ("two", 12)):
        place = StudyFolder(tmp_path / folder)
        run_search(
            plan_of(world), place, Budget(trials=budget), lambda e: None, storage=url, start=lambda *_: scripted()
        )
        with AnswerStore(place.answers) as store:
            base = next(row.record for row in study_rows(open_study("world", url)) if row.label == "base")
            assert base is not None and len(store.item_scores(base.checksum, "writing")) == 160  # both halves
    assert not [warning for warning in recwarn if "empty slice" in str(warning.message)]


def test_an_unwritable_folder_is_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write there"):
        run(world, tmp_path / "file" / "out", 9)


def test_a_baseline_outside_the_space_stands_apart_and_counts(world: Path, tmp_path: Path) -> None:
    world.write_text(world.read_text().replace("range: [0.0, 1.2]", "range: [0.1, 0.9]"))
    _, rows = run(world, tmp_path / "out", 12)
    apart = [row.label for row in rows if row.number is None]
    assert apart == ["base", "coding", "math", "writing", "task_arithmetic", "dare_0.5", "dare_0.9"]
    assert sum(row.state == "complete" for row in rows) == 12
    assert all(row.params for row in rows if row.number is not None)


def test_a_verdict_without_candidates_says_why(world: Path, tmp_path: Path) -> None:
    verdict, _ = run(world, tmp_path / "few", 8)
    assert verdict.reason.startswith("there is no candidate yet: the 8 baselines took the whole budget")
    world.write_text(world.read_text().replace("no_worse_than: base, margin: 0.1", "min: 1.0"))
    verdict, rows = run(world, tmp_path / "strict", 12)
    assert (verdict.outcome, verdict.leading) == ("REJECTED", None)
    broken = {row.label: max(row.record.violations.values()) for row in rows if row.record and not row.is_baseline}
    nearest = min(broken, key=lambda label: broken[label])
    short = f"{nearest} came nearest, and breaks writing ≥ 1 by {broken[nearest]:.4f}"
    assert verdict.reason == f"no trial met the gates on search items; {short}"


def test_gates_constrain_the_search(world: Path, tmp_path: Path) -> None:
    world.write_text(world.read_text().replace("no_worse_than: base, margin: 0.1", "min: 0.7"))
    verdict, rows = run(world, tmp_path / "out", 30)
    broken = [row for row in rows if row.record and not row.record.feasible]
    assert broken
    study = open_study("world", StudyFolder(tmp_path / "out").storage)
    told = [t for t in study.get_trials() if any(v > 0 for v in t.constraints.values())]
    assert {t.number for t in told} == {row.number for row in broken}
    assert all(j.name not in {row.label for row in broken} for j in verdict.judged)


def test_events_tell_of_every_candidate(world: Path, tmp_path: Path) -> None:
    seen: list[Ended] = []
    run(world, tmp_path / "out", 11, lambda event: seen.append(event) if isinstance(event, Ended) else None)
    assert [event.spent_trials for event in seen] == list(range(1, 12))
    again: list[Ended] = []
    run(world, tmp_path / "out", 11, lambda event: again.append(event) if isinstance(event, Ended) else None)
    assert all(event.restored for event in again)
    assert [dataclasses.replace(e, restored=False) for e in again] == seen
