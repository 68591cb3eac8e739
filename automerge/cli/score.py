"""`automerge score --skill FILE --answers ANSWERS.jsonl`: scores answers made elsewhere. No engine, no model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.options import AsJson
from automerge.errors import SkillError
from automerge.evals.items import load_items
from automerge.evals.rows import check_text
from automerge.evals.scorers import Dialogue, refuse_outside_study
from automerge.evals.skill import load_skill
from automerge.evals.store import AnswerStore
from automerge.records import Completion, Score
from automerge.zoo import make_known

MAX_NAMED = 5  # ids listed in a message


def score(
    skill: Annotated[str, typer.Option("--skill", help="A skill: a YAML file, or the name of a shipped one.")],
    answers: Annotated[
        Path | None, typer.Option("--answers", help="JSONL: an object with id and answer on each line.")
    ] = None,
    items: Annotated[
        bool, typer.Option("--items", help="Print the items to answer instead, as JSONL: id and prompt.")
    ] = False,
    judged: Annotated[
        Path | None,
        typer.Option("--judged", help="Keep what a judge says in this SQLite file; ask nothing twice."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score answers made elsewhere, item by item; every item of the skill needs one."""
    make_known(skill)
    loaded = load_skill(skill, folder=Path())
    scorer = loaded.make_scorer()
    if scorer.needs == "lm_eval" or (scorer.needs != "answer" and not items):
        message = f"{scorer.name} asks the model itself, and not for an answer alone"
        raise SkillError(message, where=loaded.name, hint="Use `automerge eval`.")
    if items:
        for item in load_items(loaded):
            print(json.dumps({"id": item.id, "prompt": item.prompt}, ensure_ascii=False))
        return
    if answers is None:
        raise typer.BadParameter("expected --answers FILE, or --items to see what is asked")
    given = _read(answers)  # before items, which may come from the hub
    if loaded.rounds > 1:
        message = f"its items take {loaded.rounds} answers one after another, and a file holds one an item"
        raise SkillError(message, where=loaded.name, hint="Use `automerge eval`.")
    refuse_outside_study(scorer, loaded.name)
    if (problem := scorer.unready()) is not None:
        raise SkillError(problem, where=loaded.name)
    scorer.isolation()
    asked = {item.id: item for item in load_items(loaded)}
    _check_ids(list(asked), list(given), str(answers), loaded.name)
    with AnswerStore(judged) as memory:
        found = scorer.score_dialogues(
            [Completion(text, 0, "stop") for text in given.values()],
            [asked[i].target for i in given],
            [Dialogue(asked[i].asked(), (text,)) for i, text in given.items()],
            memory,
        )
    if as_json:
        rows = zip(given, found, strict=True)
        print(json.dumps([{"id": i, "score": score.value, "detail": score.detail} for i, score in rows]))
    else:
        _print(loaded.name, list(given), found)


def _read(path: Path) -> dict[str, str]:
    """Item id → answer, in the file's order. Raises SkillError naming the line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SkillError(f"cannot read the answers: {error.strerror}", where=str(path)) from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        identity, text = _parse(line, where)
        if identity in found:
            raise SkillError(f"a second answer for the id {identity!r}", where=where)
        found[identity] = text
    if not found:
        raise SkillError("there are no answers", where=str(path), hint='Write {"id": …, "answer": "…"}, one a line.')
    return found


def _parse(line: bytes, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SkillError("not valid UTF-8", where=where, hint="Save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise SkillError(f"not valid JSON: {error}", where=where) from error
    if not isinstance(row, dict) or "id" not in row or "answer" not in row:
        got = f"the fields {', '.join(map(str, row)) or 'none'}" if isinstance(row, dict) else type(row).__name__
        raise SkillError(f"expected an object with id and answer, got {got}", where=where)
    if not isinstance(row["answer"], str) or isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
        got = f"id {type(row['id']).__name__}, answer {type(row['answer']).__name__}"
        raise SkillError(
            f"expected an id that is text or an integer and an answer that is text, got {got}", where=where
        )
    check_text([row["id"], row["answer"]], where)
    return str(row["id"]), row["answer"]


def _check_ids(wanted: list[str], given: list[str], where: str, skill: str) -> None:
    known, answered = set(wanted), set(given)
    if unknown := [identity for identity in given if identity not in known]:
        raise SkillError(
            f"{len(unknown)} ids are not items of {skill}: {_some(unknown)}; its items are {_some(wanted)}",
            where=where,
            hint="`--items` prints every id with its prompt; data.id in the skill names the field they are read from.",
        )
    if missing := [identity for identity in wanted if identity not in answered]:
        raise SkillError(
            f"{len(missing)} of {len(wanted)} items have no answer: {_some(missing)}",
            where=where,
            hint='An answer that is empty is written as one: {"id": …, "answer": ""}.',
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")


def _print(skill: str, names: list[str], found: list[Score]) -> None:
    from automerge.report.tables import plain_table  # with --json it would be most of what is imported

    table = plain_table(skill)
    for column in ("id", "score", "detail"):
        table.add_column(column, overflow="fold")
    for name, score in zip(names, found, strict=True):
        value = "unscored" if score.value is None else f"{score.value:.4g}"
        table.add_row(name, value, score.detail)
    console = make_console()
    console.print(table)
    values = [score.value for score in found if score.value is not None]
    mean = f"mean {sum(values) / len(values):.4f} of {len(values)} scored" if values else "nothing is scored"
    console.print(f"{mean}, {len(found) - len(values)} unscored")
