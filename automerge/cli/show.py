"""`automerge show N`: one trial's recipe, scores, gates and answers, beside those of the base.

`automerge show FILE`: the answers that eval, compare or gate kept.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from automerge.cli.console import make_console
from automerge.cli.opening import Opened, open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.errors import StudyError, meant
from automerge.evals.store import AnswerStore
from automerge.recipe import Recipe, parse_recipe
from automerge.records import ItemResult
from automerge.report.tables import mixture_line, plain_table, trial_table
from automerge.study.records import Record, Row, study_rows


def show(
    trial: Annotated[str, typer.Argument(help="A trial's number, a baseline's name, or a file of eval --answers.")],
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    answers: Annotated[int, typer.Option(min=0, help="Answers shown a skill.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show one trial: recipe, scores, gates, and some answers beside the base's; or the answers kept in a file."""
    if out is None and study is None and Path(trial).is_file():
        _show_kept(Path(trial), answers, as_json)
        return
    opened = open_existing(out, study, storage)
    rows = study_rows(opened.study)
    row, record = find_row(rows, trial)
    recipe = parse_recipe(record.recipe)
    asked = {skill: _answers(opened, record.checksum, skill) for skill in record.skills}
    if as_json:
        items = {skill: [_fields(result) for result in results] for skill, results in asked.items()}
        print(json.dumps({**row.to_json(), "recipe": json.loads(record.recipe), "answers": items}))
        return
    console = make_console()
    base = next((r for r in rows if r.label == "base" and r.record and r is not row), None)
    compared = [r for r in (base, row) if r]
    console.print(trial_table(compared, list(opened.config.skills), title="search items", width=console.width))
    console.print(f"recipe {recipe.hash[:16]}, weights {record.checksum}")
    console.print(_recipe_table(recipe))
    if recipe.mixture is not None:
        console.print(mixture_line(recipe.mixture))
    theirs = {s: _answers(opened, base.record.checksum, s) for s in asked} if base and base.record else {}
    for skill, results in asked.items() if answers else ():
        beside = {r.item: r for r in theirs[skill]} if theirs else None
        console.print(_answer_table(skill, results[:answers], beside))


def _show_kept(path: Path, count: int, as_json: bool) -> None:
    """Every model of an answer store, with its answers skill by skill."""
    with AnswerStore(path) as store:
        names = store.names()
        kept = {
            checksum: {skill: store.results(checksum, skill) for skill in skills}
            for checksum, skills in store.models().items()
        }
    if not kept:
        raise StudyError("no answers are kept here", where=str(path))
    if as_json:
        models = [
            {
                "names": names.get(checksum, []),
                "checksum": checksum,
                "answers": {skill: [_fields(result) for result in results] for skill, results in own.items()},
            }
            for checksum, own in kept.items()
        ]
        print(json.dumps(models))
        return
    console = make_console()
    for checksum, own in kept.items():
        console.print(f"{', '.join(names.get(checksum, [])) or 'no name is kept'}, weights {checksum}")
        for skill, results in own.items():
            unscored = sum(result.score.value is None for result in results)
            console.print(f"{skill}: {len(results)} answers, {unscored} unscored")
            if count:
                console.print(_answer_table(skill, results[:count], None))


def _fields(result: ItemResult) -> dict[str, object]:
    """All that is kept of an answer."""
    return {
        "item": result.item,
        "prompt": result.prompt,
        "answer": result.answer,
        "tokens": result.tokens,
        "score": result.score.value,
        "detail": result.score.detail,
    }


def find_row(rows: list[Row], trial: str) -> tuple[Row, Record]:
    """The row of a trial number or a baseline's name. Raises StudyError where it is not there or has no scores."""
    names = {row.label: row for row in rows} | {str(row.number): row for row in rows if row.number is not None}
    if trial not in names:
        numbers = [row.number for row in rows if row.number is not None]
        baselines = ", ".join(row.label for row in rows if row.is_baseline)
        raise StudyError(
            f"no trial or baseline {trial!r}{meant(trial, names)}",
            hint=f"Trials 0 to {max(numbers, default=0)}; baselines: {baselines}.",
        )
    row = names[trial]
    if row.record is None or row.record.error:
        raise StudyError(f"{row.label} is {row.state}: it has no scores", hint=row.record.error if row.record else None)
    return row, row.record


def _answers(opened: Opened, checksum: str, skill: str) -> list[ItemResult]:
    if not opened.folder.answers.exists():
        return []
    with AnswerStore(opened.folder.answers) as store:
        return store.results(checksum, skill)


def _recipe_table(recipe: Recipe) -> Table:
    table = plain_table(f"{recipe.method}, {recipe.dtype}, mask seed {recipe.seed}")
    parameters = list(recipe.groups[0].values)
    table.add_column("group")
    for parameter in parameters:
        table.add_column(parameter)
    for group in recipe.groups:
        cells = []
        for parameter in parameters:
            value = group.values[parameter]
            texts = [f"{value:.3f}"] if isinstance(value, float) else [f"{k} {v:.3f}" for k, v in dict(value).items()]
            cells.append("  ".join(texts))
        table.add_row(group.name, *cells)
    return table


def _answer_table(skill: str, results: list[ItemResult], base: dict[str, ItemResult] | None) -> Table:
    """`base`: its answers by item; None where there are none to set beside."""
    table = plain_table(skill)
    for column in ("item", "prompt", "answer", "tokens", "score", "why"):
        whole = column in ("item", "tokens", "score")
        table.add_column(column, overflow="fold", no_wrap=whole, max_width=None if whole else 40)
    for column in ("base's answer", "base's score") if base is not None else ():
        table.add_column(column, overflow="fold", max_width=40)
    for result in results:
        theirs = (base or {}).get(result.item)
        own = [result.answer, str(result.tokens), _score(result), result.score.detail]
        others = [theirs.answer, _score(theirs)] if theirs else []
        table.add_row(result.item, result.prompt[-200:], *own, *others)
    return table


def _score(result: ItemResult) -> str:
    return "unscored" if result.score.value is None else f"{result.score.value:.3f}"
