"""`automerge reweigh --weights math=2,writing=1`: a finished study ranked by other weights; nothing is generated."""

import json
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.intervals import CONFIDENCE, difference_text
from automerge.cli.opening import open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.errors import ConfigError, StudyError, explained_on, meant
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import MIN_ITEMS, difference
from automerge.records import Interval
from automerge.report.tables import plain_table
from automerge.study.records import Row, objective_of, study_rows
from automerge.study.stored_scores import stored_scores

SHOWN = 12


@explained_on("study.md")
def reweigh(
    weights: Annotated[str, typer.Option(help="SKILL=WEIGHT, …; a skill that is not named weighs nothing.")],
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Rank a study's candidates by other weights, from the scores it has; nothing is merged and nothing generated."""
    opened = open_existing(out, study, storage)
    chosen = parse_weights(weights, list(opened.config.skills))
    rows = [row for row in study_rows(opened.study) if row.state == "complete" and row.record]
    feasible = [row for row in rows if row.record and row.record.feasible]
    if not feasible:
        raise StudyError("no candidate was asked everything and meets the gates: there is nothing to rank")
    ranked = sorted(feasible, key=lambda row: -_value(row, chosen))
    best = ranked[0]
    with AnswerStore(opened.folder.answers) as store:
        ahead = {row.label: _difference(store, best, row, chosen, opened.config.seed) for row in ranked[1:SHOWN]}
    if as_json:
        entries = [{"number": r.number, "label": r.label, "value": _value(r, chosen)} for r in ranked]
        print(json.dumps({"weights": chosen, "ranked": entries}))
        return
    table = plain_table("search items, weighed by " + ", ".join(f"{s} {w:g}" for s, w in chosen.items()))
    table.add_column("candidate")
    table.add_column("value", justify="right")
    for skill in chosen:
        table.add_column(skill, justify="right")
    table.add_column(f"{best.label} is ahead by, 95%", justify="right")
    for row in ranked[:SHOWN]:
        assert row.record is not None
        table.add_row(
            row.label,
            f"{_value(row, chosen):.4f}",
            *(f"{row.record.skills[skill].mean:.4f}" for skill in chosen),
            _shown(ahead.get(row.label)) if row is not best else "",
        )
    console = make_console()
    console.print(table)
    console.print("Candidates were chosen on these items, so no difference here is a proof.", style="dim")
    console.print(
        f"Write it out: automerge export --trial {best.number if best.number is not None else best.label} OUT"
    )


def parse_weights(text: str, skills: list[str]) -> dict[str, float]:
    """`math=2,writing=1` → weights. Raises ConfigError for a skill the study lacks, a usage error for
    a weight that is none."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        if name not in skills:
            known = f"the study has: {', '.join(skills)}"
            raise ConfigError(f"no skill {name!r}{meant(name, skills)}; {known}", where="--weights")
        try:
            found[name] = float(number)
        except ValueError:
            raise typer.BadParameter(f"expected {name}=NUMBER, got {part.strip()!r}", param_hint="--weights") from None
        if not 0 < found[name] < float("inf"):
            message = f"{name}: expected a weight above 0, got {number.strip()}"
            raise typer.BadParameter(message, param_hint="--weights")
    return found


def _value(row: Row, weights: dict[str, float]) -> float:
    assert row.record is not None
    return objective_of(row.record.skills, weights)


def _difference(store: AnswerStore, best: Row, row: Row, weights: dict[str, float], seed: int) -> Interval | None:
    """Paired, by the items that both were scored on; None where they are too few."""
    assert best.record is not None and row.record is not None
    pairs = {skill: stored_scores(store, skill, [best.record.checksum, row.record.checksum]) for skill in weights}
    if any(len(one) < MIN_ITEMS for one, _ in pairs.values()):
        return None
    ours, theirs = ({skill: pair[side] for skill, pair in pairs.items()} for side in (0, 1))
    return difference(ours, theirs, weights, confidence=CONFIDENCE, seed=seed)


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return f"fewer than {MIN_ITEMS} items"
    return difference_text(interval)
