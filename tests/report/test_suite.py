"""The table of a suite and its radar chart."""

import csv
import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from automerge.records import ItemResult, Score
from automerge.report.radar import radar
from automerge.report.suite import SuiteTable, suite_of, suite_table


def result(skill: str, *ratings: float | None) -> ItemResult:
    scores = tuple(Score(None if rating is None else (rating - 1) / 9) for rating in ratings)
    return ItemResult(skill, "1", "p", "a", 1, scores[0], scores if len(scores) > 1 else ())


@pytest.fixture
def table() -> SuiteTable:
    models = {
        "one": {
            "b/writing": [result("b/writing", 8, 6), result("b/writing", 9, None)],
            "b/math": [result("b/math", 3)],
        },
        "a|b": {"b/writing": [result("b/writing", 7, 7)], "b/math": [result("b/math", None)]},
    }
    return suite_table("b", models, judged=True)


def test_the_total_is_over_all_scores(table: SuiteTable) -> None:
    """One score a round, and none for what is unscored: (8 + 6 + 9 + 3) / 4, not the mean of the columns."""
    assert table.columns == ("total", "writing", "math")
    assert table.rows == {"one": (6.5, pytest.approx(23 / 3), 3.0), "a|b": (7.0, 7.0, None)}
    assert table.unscored == {"one": 1, "a|b": 1}


def test_markdown_and_csv(table: SuiteTable) -> None:
    assert table.markdown() == (
        "| model | total | writing | math |\n|---|---|---|---|\n"
        "| one | 6.500 | **7.667** | **3.000** |\n| a\\|b | **7.000** | 7.000 | – |\n"
    )
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert rows == [["model", "total", "writing", "math"], ["one", "6.5", "7.666667", "3.0"], ["a|b", "7.0", "7.0", ""]]


def test_the_best_of_each_column_is_bold(table: SuiteTable) -> None:
    console = Console(width=80, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(table.terminal())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    bold = [part.split("\x1b[0m")[0].strip() for part in text.split("\x1b[1m")[1:]]
    assert [word for word in bold if word[:1].isdigit()] == ["7.667", "3.000", "7.000"]


def test_scores_that_are_no_ratings() -> None:
    models = {"m": {"s/x": [result("s/x", 10)], "s/y": [result("s/y", 1)]}}
    assert suite_table("s", models, judged=False).rows == {"m": (0.5, 1.0, 0.0)}


@pytest.mark.parametrize(
    ("skills", "suite"),
    [(["b/x", "b/y"], "b"), (["b/x"], None), (["x", "y"], None), (["b/x", "c/y"], None), (["b/x", "y"], None)],
)
def test_suite_of(skills: list[str], suite: str | None) -> None:
    assert suite_of(skills) == suite


def test_the_radar_is_one_drawing_of_all_models() -> None:
    drawn = radar(["writing", "math", "a<b"], {"one": [7, 3, None], "two": [5, 5, 5]}, most=10)
    root = ET.fromstring(drawn)
    text = "".join(root.itertext())
    assert all(word in text for word in ("writing", "math", "a<b", "one", "two"))
    assert drawn == radar(["writing", "math", "a<b"], {"one": [7, 3, None], "two": [5, 5, 5]}, most=10)
    assert "http://" not in drawn.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert drawn != radar(["writing", "math", "a<b"], {"one": [7, 3, 0.0], "two": [5, 5, 5]}, most=10)  # a gap, no zero
    with pytest.raises(ValueError, match="needs three skills at least, got 2"):
        radar(["a", "b"], {}, most=1)
