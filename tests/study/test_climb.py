"""Racing and the cheap tier within whole studies over the scripted landscape."""

from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.errors import ConfigError
from automerge.gate.verdict import Verdict
from automerge.recipe import parse_recipe
from automerge.study.climb import Climb
from automerge.study.events import Event, Note
from automerge.study.finals import pareto_front
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import Record, Row, SkillMean, study_rows
from automerge.study.session import run_search
from automerge.study.store import open_study
from tests.study.test_search import Killed, essence, killing
from tests.study.worlds import plan_of, scripted

RACING, TIER = "racing: false", "tiers: []"


def changed(config: Path, *pairs: tuple[str, str]) -> Path:
    text = config.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    return config


def run(
    config: Path, folder: Path, trials: int, listen: Callable[[Event], None] = lambda event: None
) -> tuple[Verdict, list[Row], int]:
    """(verdict, rows, prompts sent to be answered)."""
    place, engine = StudyFolder(folder), scripted()
    verdict = run_search(plan_of(config), place, Budget(trials=trials), listen, start=lambda plan, share: engine)
    asked = sum(prompts for method, prompts in engine.calls if method == "generate")
    return verdict, study_rows(open_study("world", place.storage)), asked


@pytest.fixture
def small_blocks(world: Path) -> Path:
    changed(world.parent / "skill.yaml", ("block: 20", "block: 8"), ("search: 40", "search: 80"), ("120", "80"))
    return world


def test_racing_asks_less_and_finds_as_good_a_merge(small_blocks: Path, tmp_path: Path) -> None:
    _, whole, all_asked = run(small_blocks, tmp_path / "whole", 30)
    changed(small_blocks, (RACING, "racing: true"))
    verdict, rows, asked = run(small_blocks, tmp_path / "raced", 30)
    stopped = [row for row in rows if row.state == "stopped"]
    assert stopped and asked < all_asked
    assert verdict.outcome == "PROMOTED"
    assert not {row.label for row in stopped} & {judged.name for judged in verdict.judged}
    best = max(row.value or 0.0 for row in whole)
    assert max(row.value or 0.0 for row in rows if row.state == "complete") > best - 0.03


def test_baselines_race_but_for_those_that_gates_refer_to(small_blocks: Path, tmp_path: Path) -> None:
    changed(small_blocks, (RACING, "racing: true"))
    verdict, rows, _ = run(small_blocks, tmp_path / "raced", 12)
    states = {row.label: row.state for row in rows if row.is_baseline}
    gates = {gate.gate for judged in verdict.judged for gate in judged.gates}
    assert gates and all("base" in gate for gate in gates)
    assert states.pop("base") == "complete" and "stopped" in states.values()
    assert states.keys() <= {row.name for row in verdict.rows}  # on held-out items all are asked everything


@pytest.mark.parametrize(
    ("baseline", "stopped", "asked", "known"),
    [(False, "", 9, 1), (False, "behind", 4, 0), (True, "", 9, 1), (True, "behind", 4, 1), (True, "likelihoods", 0, 0)],
)
def test_the_tier_learns_from_who_was_not_chosen_by_it(
    world: Path, baseline: bool, stopped: str, asked: int, known: int
) -> None:
    config = plan_of(changed(world, (RACING, "racing: true"))).space.config
    skills = {skill: SkillMean(0.5, asked, 0) for skill in config.skills}
    climb = Climb(config, dict.fromkeys(config.skills, (9, 3)), lambda checksum: {}, tier=True)
    record = Record("", "c0", 0.5, skills, {}, 1, {}, stopped=stopped, likelihoods=dict.fromkeys(config.skills, 0.1))
    climb.refer("base", "c9", skills)
    climb.learn("one", record, baseline=baseline)
    assert climb.tier is not None and climb.tier.known == known
    assert (climb.watch() is None) == bool(stopped), "what was stopped is nobody's incumbent"


def test_what_a_stopped_candidate_is_told_is_on_the_scale_of_the_others(small_blocks: Path, tmp_path: Path) -> None:
    changed(small_blocks, (RACING, "racing: true"))
    _, rows, _ = run(small_blocks, tmp_path / "raced", 30)
    study = open_study("world", StudyFolder(tmp_path / "raced").storage)
    told = {trial.number: trial.value for trial in study.get_trials()}
    incumbent = 0.0
    for row in rows:
        assert row.record is not None and row.number is not None
        assert told[row.number] == pytest.approx(row.value)
        if row.state == "stopped":
            assert "behind" in row.record.stopped or "gate" in row.record.stopped
            assert 0 < sum(skill.n for skill in row.record.skills.values()) < 240
            assert (row.value or 0.0) < incumbent or not row.record.feasible
        elif row.record.feasible:
            incumbent = max(incumbent, row.value or 0.0)


def test_the_tier_stops_what_it_can_tell_without_generating(small_blocks: Path, tmp_path: Path) -> None:
    changed(small_blocks, (RACING, "racing: true"), (TIER, "tiers: [likelihood]"))
    notes: list[str] = []
    verdict, rows, asked = run(
        small_blocks, tmp_path / "tier", 30, lambda e: notes.append(e.text) if isinstance(e, Note) else None
    )
    assert any("likelihood tier" in note and "Spearman" in note for note in notes)
    by_tier = [row for row in rows if row.record and row.record.stopped and "likelihoods" in row.record.stopped]
    assert by_tier and all(skill.n == 0 for row in by_tier for skill in row.record.skills.values())  # type: ignore[union-attr]
    assert verdict.outcome == "PROMOTED"
    changed(small_blocks, ("tiers: [likelihood]", TIER))
    assert asked < run(small_blocks, tmp_path / "raced", 30)[2]


def test_a_tier_that_says_nothing_is_dropped(
    small_blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.study.worlds.logprobs", lambda recipe, prompt, continuation: [-1.0])
    changed(small_blocks, (RACING, "racing: true"), (TIER, "tiers: [likelihood]"))
    notes: list[str] = []
    _, rows, _ = run(
        small_blocks, tmp_path / "tier", 14, lambda e: notes.append(e.text) if isinstance(e, Note) else None
    )
    assert sum("dropped" in note for note in notes) == 1
    assert not rows[-1].record.likelihoods and rows[0].record.likelihoods  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "sampler",
    [
        "tpe",
        "gp",
        "cmaes",
        "qmc",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("nsga2", "nsga3", "random")),
    ],
)
def test_an_interrupted_study_ends_as_an_uninterrupted_one_with_every_sampler(
    small_blocks: Path, tmp_path: Path, sampler: str
) -> None:
    changed(
        small_blocks,
        (RACING, "racing: true"),
        (TIER, "tiers: [likelihood]"),
        ("name: tpe", f"name: {sampler}, startup: 9"),
    )
    verdict, rows, _ = run(small_blocks, tmp_path / "whole", 16)
    for blocks in (5, 390):
        with pytest.raises(Killed):
            run(small_blocks, tmp_path / "cut", 16, killing(blocks))
    again, cut, _ = run(small_blocks, tmp_path / "cut", 16)
    assert essence(cut) == essence(rows)
    assert again == verdict


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_the_search_chooses_among_methods(world: Path, tmp_path: Path, sampler: str) -> None:
    """Ties has no drop, dare_linear no density; all are suggested, and a merge takes its own."""
    changed(
        world,
        ("method: dare_linear", "method: [dare_linear, ties]"),
        ("drop: {range: [0.0, 0.9]}", "drop: {range: [0.0, 0.9]}\n  density: {range: [0.2, 1.0]}"),
        ("name: tpe", f"name: {sampler}, startup: 9"),
    )
    verdict, rows, _ = run(world, tmp_path / "whole", 20)
    recipes = [parse_recipe(row.record.recipe) for row in rows if row.record and row.number is not None]
    assert {recipe.method for recipe in recipes} == {"dare_linear", "ties"}
    assert all(set(row.params) == set(rows[-1].params) for row in rows if row.number is not None)
    for recipe in recipes:
        (group,) = recipe.groups
        assert ("density" in group.values) == (recipe.method == "ties") != ("drop" in group.values)
    with pytest.raises(Killed):
        run(world, tmp_path / "cut", 20, killing(100))
    again, cut, _ = run(world, tmp_path / "cut", 20)
    assert (again, essence(cut)) == (verdict, essence(rows))


def test_several_objectives_give_a_front(small_blocks: Path, tmp_path: Path) -> None:
    changed(
        small_blocks,
        ("objective: {math: 1, coding: 1, writing: 1}", "objectives: [math, coding, writing]"),
        ("name: tpe", "name: auto"),
        (RACING, "racing: true"),
    )
    verdict, rows, _ = run(small_blocks, tmp_path / "front", 24)
    study = open_study("world", StudyFolder(tmp_path / "front").storage)
    assert len(study.directions) == 3
    assert all(row.state == "complete" for row in rows)
    front = pareto_front(rows, ["math", "coding", "writing"])
    assert {row.number for row in front} == {trial.number for trial in study.best_trials}
    assert {judged.name for judged in verdict.judged} <= {row.label for row in front}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("objective: {math: 1, coding: 1, writing: 1}", "objectives: [math]")], "two skills or more"),
        ([("objective: {math: 1, coding: 1, writing: 1}", "objectives: [math, nosuch]")], "nosuch"),
        ([("racing: false", "objectives: [math, coding]")], "either objective"),
        (
            [
                ("objective: {math: 1, coding: 1, writing: 1}", "objectives: [math, coding]"),
                ("name: tpe", "name: cmaes"),
            ],
            "cmaes has one objective",
        ),
    ],
)
def test_impossible_combinations_are_refused(world: Path, pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(changed(world, *pairs))
