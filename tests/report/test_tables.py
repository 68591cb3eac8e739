"""Tables for the terminal and for Markdown: what is bold, what is said of gates, what a card tells."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text
from ruamel.yaml import YAML

from automerge.gate.rules import GateResult
from automerge.gate.verdict import Judged, Outcome, Row, Verdict
from automerge.recipe import Group, ModelRef, make_recipe
from automerge.records import Interval
from automerge.report.card import model_card
from automerge.report.licences import Licences, licences
from automerge.report.tables import (
    difference_table,
    gate_lines,
    gate_text,
    markdown,
    trial_table,
    verdict_line,
    verdict_table,
)
from automerge.study.records import Record, SkillMean
from automerge.study.records import Row as TrialRow

GATE = "writing no worse than base (margin 0.02)"


def record(objective: float, math: float, writing: float, *, short: float = -0.1, error: str = "") -> Record:
    skills = {"math": SkillMean(math, 40, 0), "writing": SkillMean(writing, 40, 0)}
    return Record("{}", "0" * 32, objective, skills, {GATE: short}, 7, {"total": 1.25}, error)


def rows() -> list[TrialRow]:
    return [
        TrialRow(None, "base", "complete", True, {}, record(0.40, 0.30, 0.50)),
        TrialRow(0, "plain_average", "complete", True, {}, record(0.45, 0.45, 0.45)),
        TrialRow(1, "trial 1", "complete", False, {}, record(0.90, 0.95, 0.41, short=0.07)),
        TrialRow(2, "trial 2", "complete", False, {}, record(0.47, 0.46, 0.48)),
        TrialRow(3, "trial 3", "failed", False, {}, record(0, 0, 0, error="not finite")),
        TrialRow(4, "trial 4", "running", False),
    ]


def cells(table: Table) -> list[list[Text]]:
    """The table's cells by row, as text that keeps its style."""
    columns = [[c if isinstance(c, Text) else Text(str(c)) for c in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def is_bold(text: Text) -> bool:
    return "bold" in str(text.style) and "not bold" not in str(text.style)


def drawn(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_best_of_each_column_is_bold() -> None:
    table = cells(trial_table(rows(), ["math", "writing"]))
    bold = {(row[0].plain, index) for row in table for index, cell in enumerate(row) if index and is_bold(cell)}
    # trial 1 has the highest objective but breaks its gate, so the best is trial 2; skills are as they are
    assert bold == {("trial 2", 1), ("trial 1", 2), ("base", 3)}


def test_gates_failures_and_running_trials_are_shown() -> None:
    by_label = {row[0].plain: row for row in cells(trial_table(rows(), ["math", "writing"]))}
    assert by_label["base"][4].plain == "met"
    assert "writing" in by_label["trial 1"][4].plain and "0.070" in by_label["trial 1"][4].plain
    assert "red" in str(by_label["trial 1"][4].style)
    assert by_label["trial 3"][4].plain == "failed: not finite" and by_label["trial 3"][1].plain == ""
    assert by_label["trial 4"][4].plain == "running"
    assert by_label["trial 2"][5].plain == "1.2"


def test_a_table_of_nothing() -> None:
    assert "candidate" in drawn(trial_table([], ["math"], title="empty"))
    assert cells(trial_table([rows()[-1]], ["math"]))[0][0].plain == "trial 4"


@pytest.mark.parametrize("width", [200, 80, 50, 40, 30])
def test_names_and_numbers_stay_whole_in_any_width(width: int) -> None:
    skills = ["math", "writing"]
    whole = drawn(trial_table(rows(), skills))
    table = trial_table(rows(), skills, width=width)
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "…" not in said and "plain_average" in said and "0.4500" in said
    shown = [str(column.header) for column in table.columns]
    left_out = ["objective", *skills, "gates", "seconds"][len(shown) - 1 :]
    assert ("left out" in said) == bool(left_out)
    assert all(name in " ".join(said.split()) for name in left_out) and all(name in whole for name in left_out)
    assert bool(left_out) == (width < 60)


def test_gate_text() -> None:
    assert gate_text({}).plain == "–"
    assert gate_text({"a ≥ 0.5": 0.0, "b ≥ 0.5": -0.1}).plain == "met"
    text = gate_text({"a ≥ 0.5": 0.25, "b ≥ 0.5": -0.1, "c ≥ 0.5": 0.125}).plain
    assert "0.250" in text and "0.125" in text and "b" not in text.split()


def interval(estimate: float, half: float = 0.05) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, 0.95, 100)


def verdict(outcome: Outcome = "PROMOTED", *, use: int = 1) -> Verdict:
    gate = GateResult(GATE, "writing", interval(0.01, 0.02), -0.02, 80)
    broken = GateResult(GATE, "writing", interval(-0.2), -0.02, 10)
    judged = [
        Judged(
            "trial 2",
            outcome,
            "the reason of trial 2",
            [gate if outcome != "REJECTED" else broken],
            {"base": interval(0.2), "plain_average": interval(-0.01), "math": interval(-0.3)},
            "plain_average",
        )
    ]
    table = [
        Row(name, interval(objective), {"math": interval(math), "writing": interval(objective * 2 - math)})
        for name, objective, math in (("trial 2", 0.6, 0.7), ("base", 0.4, 0.3), ("plain_average", 0.61, 0.6))
    ]
    winner = "trial 2" if outcome == "PROMOTED" else None
    return Verdict(outcome, "the reason of trial 2", winner, judged, table, 0.95, use)


def test_verdict_table() -> None:
    table = verdict_table(verdict())
    found = {row[0].plain: row for row in cells(table)}
    assert list(found) == ["trial 2", "base", "plain_average"]
    assert "95%" in str(table.title)
    assert found["trial 2"][1].plain.startswith("0.600") and "0.050" in found["trial 2"][1].plain
    bold = {(name, index) for name, row in found.items() for index, cell in enumerate(row) if index and is_bold(cell)}
    assert bold == {("plain_average", 1), ("trial 2", 2), ("plain_average", 3)}
    assert "green" in str(found["trial 2"][0].style) and "green" not in str(found["plain_average"][0].style)


def test_difference_table() -> None:
    table = difference_table(verdict())
    assert table is not None
    found = {row[0].plain.split()[0]: row for row in cells(table)}
    assert list(found) == ["base", "plain_average", "math"]
    assert "best that meets the gates" in found["plain_average"][0].plain
    assert [str(row[1].style) for row in found.values()] == ["green", "yellow", "red"]
    assert found["math"][1].plain == "-0.3000" and found["math"][2].plain == "[-0.3500, -0.2500]"
    assert found["base"][2].plain == "[0.1500, 0.2500]"
    assert difference_table(Verdict("REJECTED", "none", None, [], [], 0.95)) is None


def test_gate_lines() -> None:
    results = [
        GateResult("a", "s", interval(0.01, 0.02), -0.02, 80),
        GateResult("b", "s", interval(0.01, 0.04), -0.02, 80),
        GateResult("c", "s", interval(-0.2), -0.02, 10),
    ]
    lines = gate_lines(results)
    assert [re.match(r"gate (\w): ([a-z ]+);", line).groups() for line in lines] == [  # type: ignore[union-attr]
        ("a", "met"),
        ("b", "not shown"),
        ("c", "broken"),
    ]
    assert "+0.0100, one-sided lower bound -0.0100, needs ≥ -0.0200" in lines[0]


@pytest.mark.parametrize("outcome", ["PROMOTED", "REJECTED", "INCONCLUSIVE"])
def test_verdict_line(outcome: Outcome) -> None:
    assert verdict_line(verdict(outcome)).plain == f"{outcome}  the reason of trial 2."
    assert "use 3 of the held-out items" in verdict_line(verdict(outcome, use=3)).plain


def assert_tables_well_formed(text: str) -> int:
    """Every Markdown table has a rule below its head and as many cells in every row. Gives the number of tables."""
    count = 0
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            count += 1
            assert all(line.endswith("|") for line in lines)
            assert set(lines[1]) <= set("|-: ")
            assert len({line.count("|") for line in lines}) == 1, block
    return count


def test_markdown() -> None:
    text = markdown(verdict())
    assert assert_tables_well_formed(text) == 1
    lines = text.splitlines()
    assert lines[0] == "| model | objective | math | writing |"
    assert lines[2].startswith("| **trial 2** | 0.6000 [0.5500, 0.6500] | 0.7000 ")
    assert len(lines) == 5


STATED = Licences({"base": "mit", "math": "mit", "writing": "mit"}, "mit")


def card(
    label: str = "trial 2", found: Verdict | None = None, held: Licences = STATED, base: str = "/b", math: str = "/m"
) -> str:
    recipe = make_recipe(
        method="dare_linear",
        base=ModelRef("base", base, "a" * 64),
        sources=(ModelRef("math", math, "b" * 64), ModelRef("writing", "/w", "c" * 64)),
        groups=(Group((0, 2), "all", {"weight": {"math": 0.5, "writing": 0.5}}),),
        options={},
        dtype="float32",
        seed=11,
    )
    return model_card("my-merge", label, recipe, record(0.47, 0.46, 0.48), found, "1.2.3", held)


def test_card() -> None:
    text = card(found=verdict())
    about = metadata_of(text)
    assert about["library_name"] == "transformers" and about["license"] == "mit" and "merge" in about["tags"]
    assert "# my-merge" in text and "base_model" not in about and "/b" not in text
    assert assert_tables_well_formed(text) == 2
    assert "**PROMOTED**: the reason of trial 2." in text and f"- gate {GATE}: met" in text
    assert all(word in text for word in ("dare_linear", "0" * 32, "a" * 16, "b" * 16, "c" * 16, "1.2.3", "| 11 |"))
    assert "- math: 0.4600 over 40 items" in text
    assert "Held-out items used" not in text


def metadata_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(text.split("---\n")[1])
    return found


def test_card_names_models_of_the_hub() -> None:
    about = metadata_of(card(base="owner/base@v1", math="owner/math"))
    assert about["base_model"] == ["owner/base", "owner/math"]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"base": "mit", "math": "llama3", "writing": "mit"}, "They differ"),
        ({"base": "mit", "math": "not stated", "writing": "mit"}, "Not every model states one"),
    ],
)
def test_card_flags_licences(stated: dict[str, str], said: str) -> None:
    text = card(held=Licences(stated, None))
    assert metadata_of(text)["license"] == "other" and said in text
    assert all(f"- {name}: {licence}" in text for name, licence in stated.items())


def test_licences_are_read_from_the_models_own_cards(tmp_path: Path) -> None:
    texts = {
        "a": "---\nlicense: apache-2.0\n---\n# A",
        "b": "---\nlicense: other\nlicense_name: own-1\n---\n",
        "c": "---\n: : broken [\n---\n",
        "d": None,
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "README.md").write_text(text)
    found = licences({name: tmp_path / name for name in texts})
    assert found.stated == {"a": "apache-2.0", "b": "own-1", "c": "not stated", "d": "not stated"}
    assert found.conflict and found.merged is None
    assert licences({"a": tmp_path / "a"}).merged == "apache-2.0"


def test_card_of_what_was_not_promoted() -> None:
    assert "**REJECTED**: the reason of trial 2." in card(found=verdict("REJECTED"))
    assert "Held-out items used 2 times" in card(found=verdict("REJECTED", use=2))
    assert "trial 9 was not among the candidates tried on held-out items" in card("trial 9", verdict())
    text = card(found=None)
    assert "before the study's verdict" in text and "PROMOTED" not in text
