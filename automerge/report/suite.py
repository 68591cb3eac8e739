"""The table of a suite, such as MT-Bench: a row a model, columns the total and each skill, the best in bold.

Judged skills are shown as ratings of 1 to 10. The total is over all scores, each round of a conversation one, as
MT-Bench counts it, and not over skills.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from automerge.evals.judge.opinions import as_rating
from automerge.records import ItemResult, Score
from automerge.report.tables import plain_table

Results = Mapping[str, Sequence[ItemResult]]  # by skill


@dataclass(frozen=True)
class SuiteTable:
    """`rows`: model → a value a column, None where nothing could be scored; `unscored` answers a model."""

    name: str
    columns: tuple[str, ...]  # total, then the skills
    rows: Mapping[str, tuple[float | None, ...]]
    unscored: Mapping[str, int]

    def best(self) -> list[float | None]:
        """The highest value of each column."""
        columns = zip(*self.rows.values(), strict=True)
        return [max((value for value in column if value is not None), default=None) for column in columns]

    def cells(self, model: str) -> list[tuple[str, bool]]:
        """(shown, whether it is its column's best) of one row; equal values share the bold."""
        return [
            ("–" if value is None else f"{value:.3f}", value is not None and value == top)
            for value, top in zip(self.rows[model], self.best(), strict=True)
        ]

    def terminal(self) -> Table:
        """For a terminal."""
        table = plain_table(self.name)
        table.add_column("model", overflow="fold")
        for column in self.columns:
            table.add_column(column, justify="right")
        for model in self.rows:
            table.add_row(model, *(Text(shown, style="bold" if top else "") for shown, top in self.cells(model)))
        return table

    def markdown(self) -> str:
        """A Markdown table."""
        lines = [f"| model | {' | '.join(self.columns)} |", "|---" * (1 + len(self.columns)) + "|"]
        for model in self.rows:
            shown = [f"**{text}**" if top else text for text, top in self.cells(model)]
            name = model.replace("|", "\\|")
            lines.append(f"| {name} | {' | '.join(shown)} |")
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """All digits; empty where nothing could be scored."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", *self.columns])
        for model, values in self.rows.items():
            writer.writerow([model, *("" if value is None else repr(value) for value in values)])
        return text.getvalue()


def suite_of(skills: Sequence[str]) -> str | None:
    """The suite that all of these skills (SUITE/NAME) are of; None where there is none, or only one skill."""
    suites = {skill.rpartition("/")[0] for skill in skills}
    return suites.pop() if len(suites) == 1 and "" not in suites and len(skills) > 1 else None


def suite_table(name: str, models: Mapping[str, Results], judged: bool) -> SuiteTable:
    """The table of models' results on a suite's skills; `judged` says that scores are ratings."""
    skills = list(next(iter(models.values())))
    rows, unscored = {}, {}
    for model, results in models.items():
        by_skill = [[score for result in results[skill] for score in scores_of(result)] for skill in skills]
        every = [score for scores in by_skill for score in scores]
        rows[model] = tuple(_mean(scores, judged) for scores in (every, *by_skill))
        unscored[model] = sum(score.value is None for score in every)
    return SuiteTable(name, ("total", *(skill.rpartition("/")[2] for skill in skills)), rows, unscored)


def scores_of(result: ItemResult) -> tuple[Score, ...]:
    """A score a round."""
    return result.rounds or (result.score,)


def _mean(scores: Sequence[Score], judged: bool) -> float | None:
    values = [score.value for score in scores if score.value is not None]
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return as_rating(mean) if judged else mean
