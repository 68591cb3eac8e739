"""`automerge compare A B…`: every two models, skill by skill and item by item."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any

import typer

from automerge.cli.console import make_console
from automerge.cli.intervals import CONFIDENCE, difference_text, fields
from automerge.cli.opening import open_asked
from automerge.cli.options import Answers, AsJson, Base, Half, ItemSeed, Serving, Skills
from automerge.config import EngineConfig
from automerge.evals.models import evaluate_model
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import MIN_ITEMS, as_scores, skill_difference
from automerge.records import Interval, ItemResult
from automerge.report.tables import plain_table

Results = Mapping[str, Sequence[ItemResult]]  # skill → items, in the skill's order


@dataclass(frozen=True)
class Pair:
    """Two models: skill → a − b, and the items that are furthest apart."""

    a: str
    b: str
    differences: dict[str, Interval]
    items: list[dict[str, Any]]


def compare(
    models: Annotated[list[str], typer.Argument(help="Two checkpoints or more: folders or hub ids.")],
    skills: Skills,
    items: Annotated[int, typer.Option(min=0, help="Show so many items on which two models differ most.")] = 3,
    base: Base = None,
    half: Half = "held_out",
    seed: ItemSeed = 0,
    engine: Serving = "auto",
    answers: Answers = None,
    as_json: AsJson = False,
) -> None:
    """Compare models pair by pair on the same items: differences with intervals, and the answers that differ most."""
    if len(models) < 2 or len(set(models)) < len(models):
        raise typer.BadParameter(f"expected two different models or more, got {', '.join(models)}")
    loaded = open_asked(models, base, skills, seed)
    with AnswerStore(answers) as store:
        found = {m: evaluate_model(m, base, loaded, half, store, EngineConfig(name=engine)) for m in models}
    pairs = [
        Pair(a, b, _differences(found[a], found[b], seed), _apart(found[a], found[b], items))
        for a, b in combinations(models, 2)
    ]
    if as_json:
        print(json.dumps([{**vars(pair), "differences": _fields(pair.differences)} for pair in pairs]))
    else:
        _print(pairs)


def _differences(a: Results, b: Results, seed: int) -> dict[str, Interval]:
    """Skill → a − b."""
    own, other = ({skill: as_scores(list(rows)) for skill, rows in side.items()} for side in (a, b))
    return {s: skill_difference(own[s], other[s], confidence=CONFIDENCE, seed=seed) for s in own}


def _fields(differences: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    return {skill: fields(interval) for skill, interval in differences.items()}


def _apart(a: Results, b: Results, count: int) -> list[dict[str, Any]]:
    """The items whose scores differ most, of all skills."""
    both = [pair for skill in a for pair in zip(a[skill], b[skill], strict=True)]
    scored = [(x, y) for x, y in both if x.score.value is not None and y.score.value is not None]
    differing = [(x, y) for x, y in scored if x.score.value != y.score.value]
    differing.sort(key=lambda pair: -abs((pair[0].score.value or 0.0) - (pair[1].score.value or 0.0)))
    return [
        {
            "skill": x.skill,
            "id": x.item,
            "prompt": x.prompt,
            "scores": [x.score.value, y.score.value],
            "answers": [x.answer, y.answer],
        }
        for x, y in differing[:count]
    ]


def _print(pairs: Sequence[Pair]) -> None:
    console = make_console()
    table = plain_table(f"a minus b; {100 * CONFIDENCE:g}% intervals, paired by item")
    for column in ("a", "b"):
        table.add_column(column, overflow="fold")
    table.add_column("skill")
    table.add_column("difference", justify="right")
    table.add_column("items", justify="right")
    table.add_column("")
    for pair in pairs:
        for skill, i in pair.differences.items():
            says = "a is better" if i.low > 0 else "b is better" if i.high < 0 else "no difference shown"
            says = says if i.n >= MIN_ITEMS else f"fewer than {MIN_ITEMS} items: no claim"
            table.add_row(pair.a, pair.b, skill, difference_text(i), str(i.n), says)
    console.print(table)
    for pair in pairs:
        for item in pair.items:
            console.rule(f"{item['skill']} {item['id']}", align="left", style="dim")
            console.print(item["prompt"][-400:])
            for name, answer, score in zip((pair.a, pair.b), item["answers"], item["scores"], strict=True):
                console.print(f"{name}: {score:.4g}", style="bold")
                console.print(answer[:400])
