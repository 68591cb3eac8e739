"""`automerge eval MODEL… --skills …`: the same scoring for any checkpoint or adapter, with paired differences."""

import json
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.intervals import CONFIDENCE, difference_text, fields, score_text
from automerge.cli.opening import open_asked
from automerge.cli.options import Answers, AsJson, Base, Half, ItemSeed, Serving, Skills
from automerge.config import EngineConfig
from automerge.evals.models import evaluate_model
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import MIN_ITEMS, Scores, as_scores, skill_difference, skill_score
from automerge.records import Interval, ItemResult, Score
from automerge.report.radar import radar
from automerge.report.suite import SuiteTable, scores_of, suite_of, suite_table
from automerge.report.tables import plain_table


def evaluate_models(
    models: Annotated[list[str], typer.Argument(help="Checkpoints: folders or hub ids; adapters need --base.")],
    skills: Skills,
    base: Base = None,
    half: Half = "held_out",
    seed: ItemSeed = 0,
    engine: Serving = "auto",
    answers: Answers = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Of a suite: a folder for table.md, table.csv and radar.svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score models on skills, or on a suite such as mt_bench. With several, each is compared with the first."""
    loaded = open_asked(models, base, skills, seed)
    suite = suite_of([skill.name for skill in loaded])
    if out is not None and suite is None:
        raise typer.BadParameter("--out is for a suite of skills, such as mt_bench")
    if out is not None:
        try:  # before anything is asked
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"--out: cannot make the folder {out}: {error.strerror}") from error
    results: dict[str, dict[str, list[ItemResult]]] = {}
    with AnswerStore(answers) as store:
        for model in models:
            results[model] = evaluate_model(model, base, loaded, half, store, EngineConfig(name=engine))
    scores = {model: {skill: as_scores(found) for skill, found in own.items()} for model, own in results.items()}
    found = {
        model: {skill: skill_score(values, confidence=CONFIDENCE, seed=seed) for skill, values in own.items()}
        for model, own in scores.items()
    }
    ahead = _ahead(scores, models, seed)
    judged = all(skill.scorer.name == "judge" for skill in loaded)
    table = suite_table(suite, results, judged) if suite is not None else None
    if table is not None and out is not None:
        _write(table, out, 10.0 if judged else 1.0)
    if as_json:
        shown = [_as_json(model, found[model], ahead.get(model, {}), results[model]) for model in models]
        suites = [dict(zip(table.columns, table.rows[model], strict=True)) for model in models] if table else []
        print(json.dumps([{**one, "suite": own} for one, own in zip(shown, suites, strict=True)] if table else shown))
    elif table is not None:
        console = make_console()
        console.print(table.terminal())
        for model, count in table.unscored.items():
            if count:
                why = next(score.detail for rows in results[model].values() for score in _unscored(rows))
                console.print(f"{model}: {count} answers are unscored, and count nowhere: {why}")
    else:
        _print(models, found, ahead)
        for model in models:
            for skill, rows in results[model].items():
                if missing := _unscored(rows):
                    what = "answers" if any(row.rounds for row in rows) else "items"
                    count = sum(len(scores_of(row)) for row in rows)
                    why = missing[0].detail or "no reason is known"
                    line = f"{model}, {skill}: {len(missing)} of {count} {what} are unscored, and count nowhere: {why}"
                    make_console().print(line)


def _unscored(rows: list[ItemResult]) -> list[Score]:
    """Of every round: an item of which one answer is scored has a score."""
    return [score for row in rows for score in scores_of(row) if score.value is None]


def _write(table: SuiteTable, folder: Path, most: float) -> None:
    files = {"table.md": table.markdown(), "table.csv": table.csv()}
    if len(table.columns) > 3:  # the total, and three axes
        models = {model: values[1:] for model, values in table.rows.items()}
        files["radar.svg"] = radar(table.columns[1:], models, most=most)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _ahead(scores: dict[str, dict[str, Scores]], models: list[str], seed: int) -> dict[str, dict[str, Interval]]:
    """Each later model minus the first, paired by item, where there are enough items."""
    first = scores[models[0]]
    ahead = {
        model: {
            skill: skill_difference(scores[model][skill], own, confidence=CONFIDENCE, seed=seed)
            for skill, own in first.items()
        }
        for model in models[1:]
    }
    return {model: {skill: i for skill, i in own.items() if i.n >= MIN_ITEMS} for model, own in ahead.items()}


def _as_json(
    model: str, found: dict[str, Interval], ahead: dict[str, Interval], results: dict[str, list[ItemResult]]
) -> dict[str, object]:
    return {
        "model": model,
        "skills": {
            skill: {**fields(interval), "unscored": len(_unscored(results[skill]))} for skill, interval in found.items()
        },
        "minus_first": {skill: fields(interval) for skill, interval in ahead.items()},
    }


def _print(models: list[str], found: dict[str, dict[str, Interval]], ahead: dict[str, dict[str, Interval]]) -> None:
    table = plain_table(f"{100 * CONFIDENCE:g}% intervals")
    table.add_column("model", overflow="fold")
    for skill in found[models[0]]:
        table.add_column(skill, justify="right")
    for model in models:
        table.add_row(model, *(score_text(i) for i in found[model].values()))
    console = make_console()
    console.print(table)
    for model, skills in ahead.items():
        for skill, i in skills.items():
            text = f"{model} minus {models[0]}, {skill}: {difference_text(i)}, paired, n = {i.n}"
            console.print(text)
