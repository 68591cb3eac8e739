"""The report of a study: one HTML file with everything in it, verdict first. It reads; it asks no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import optuna

from automerge import __version__
from automerge.config import SearchConfig
from automerge.evals.store import AnswerStore
from automerge.gate.verdict import Judged, Verdict
from automerge.recipe import Recipe, parse_recipe
from automerge.records import ItemResult
from automerge.report import figures
from automerge.report.commands import export_command, search_command
from automerge.report.radar import radar
from automerge.report.tables import mixture_line
from automerge.study.finals import last_verdict, pareto_front
from automerge.study.folder import StudyFolder
from automerge.study.records import Record, Row, study_rows

LONGEST = 1500  # characters of a prompt or an answer shown
IMPORTANCE_FROM = 12  # trials, below which importance says nothing


@dataclass(frozen=True)
class Sample:
    """An item as several models answered it."""

    item: str
    prompt: str
    answers: list[tuple[str, str, str]]  # (model, answer, score)


def page(study: optuna.Study, config: SearchConfig, folder: StudyFolder, storage: str) -> str:
    """The HTML text of a study in that storage."""
    rows = study_rows(study)
    verdict = last_verdict(study)
    leading = _leading(rows, verdict)
    recipe = parse_recipe(leading.record.recipe) if leading and leading.record else None
    judged = next((j for j in verdict.judged if leading and j.name == leading.label), None) if verdict else None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("automerge.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        version=__version__,
        config=config,
        about=folder.read_about(),
        config_json=json.dumps(json.loads(config.model_dump_json(exclude_defaults=True)), indent=2, ensure_ascii=False),
        verdict=verdict,
        leading=leading,
        judged=judged,
        rows=rows,
        spent=_spent(rows),
        charts=_charts(study, config, rows, verdict, leading, judged, recipe),
        samples=_samples(config, folder, rows, leading),
        recipe=recipe,
        mixture=mixture_line(recipe.mixture) if recipe and recipe.mixture else "",
        command=search_command(config, folder, storage, sum(row.finished for row in rows)),
        export=export_command(None if verdict and verdict.winner else leading.label, folder, storage)
        if leading
        else "",
    )


def _leading(rows: Sequence[Row], verdict: Verdict | None) -> Row | None:
    """The candidate the verdict is about, else the best so far."""
    by_label = {row.label: row for row in rows}
    if verdict and verdict.leading:
        return by_label.get(verdict.leading.name)
    feasible = [row for row in rows if row.state == "complete" and row.record and row.record.feasible]
    return max(feasible, key=lambda row: row.value or 0.0, default=None)


def _spent(rows: Sequence[Row]) -> dict[str, Any]:
    """Candidates by how they ended, generated tokens, and seconds by part."""
    records = [row.record for row in rows if row.record]
    total = sum(record.seconds.get("total", 0.0) for record in records)
    parts = {part: sum(r.seconds.get(part, 0.0) for r in records) for part in ("apply", "engine", "scoring")}
    states = [row.state for row in rows]
    return {
        "states": {state: states.count(state) for state in ("complete", "stopped", "failed") if state in states},
        "tokens": sum(record.tokens for record in records),
        "seconds": total,
        "parts": {"merging": parts["apply"], "engine": parts["engine"], "scoring": parts["scoring"]}
        | {"the rest": max(total - sum(parts.values()), 0.0)},
    }


def _charts(
    study: optuna.Study,
    config: SearchConfig,
    rows: Sequence[Row],
    verdict: Verdict | None,
    leading: Row | None,
    judged: Judged | None,
    recipe: Recipe | None,
) -> dict[str, Any]:
    """Name → SVG, empty where there is nothing to draw; `heat` is one a parameter."""
    return {
        "history": _history(rows, leading),
        "radar": _radar(verdict, leading, judged),
        "differences": _differences(judged),
        "heat": _heat(recipe) if recipe else {},
        "importance": _importance(study, config),
        "front": _front(config, rows),
    }


def _history(rows: Sequence[Row], leading: Row | None) -> str:
    tried = [(row.number, row) for row in rows if row.number is not None and row.value is not None and row.record]
    if not tried:
        return ""
    complete, stopped, infeasible, best = [], [], [], []
    highest = float("-inf")
    for number, row in tried:
        point = (number, row.value or 0.0)
        if row.state == "stopped":
            stopped.append(point)
        elif row.record and row.record.feasible:
            complete.append(point)
            highest = max(highest, point[1])
        else:
            infeasible.append(point)
        if highest > float("-inf"):
            best.append((number, highest))
    baselines = {row.label: row.value for row in rows if row.is_baseline and row.value is not None}
    return figures.history(complete, stopped, infeasible, best, baselines, leading.number if leading else None)


def _radar(verdict: Verdict | None, leading: Row | None, judged: Judged | None) -> str:
    if verdict is None or leading is None or judged is None:
        return ""
    skills = list(verdict.rows[0].skills)
    shown = list(dict.fromkeys((leading.label, judged.rival, "base")))
    models = {row.name: [row.skills[s].estimate for s in skills] for row in verdict.rows if row.name in shown}
    if len(skills) < 3:
        return ""
    most = max(max(values) for values in models.values()) or 1.0
    return figures.on_page(radar(skills, models, most=min(1.05 * most, 1.0)))


def _differences(judged: Judged | None) -> str:
    if judged is None:
        return ""
    intervals = {name: (i.estimate, i.low, i.high) for name, i in judged.differences.items()}
    return figures.differences(intervals, f"objective of {judged.name} minus that of each baseline, held-out items")


def _heat(recipe: Recipe) -> dict[str, str]:
    """One map a parameter with a value a source: sources over groups of layers and modules."""
    found = {}
    for parameter, value in recipe.groups[0].values.items():
        if isinstance(value, Mapping):
            sources = sorted(value)
            values = [[_of(group.values[parameter], source) for group in recipe.groups] for source in sources]
            names = [group.name for group in recipe.groups]
            found[parameter] = figures.heat_map(sources, names, values, parameter)
    return found


def _of(value: Any, source: str) -> float:
    return float(value[source]) if isinstance(value, Mapping) else float(value)


def _importance(study: optuna.Study, config: SearchConfig) -> str:
    """PED-ANOVA (Watanabe et al. 2023), as Optuna has it."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == optuna.trial.TrialState.COMPLETE and t.params]
    if config.objectives or len(complete) < IMPORTANCE_FROM or len({t.value for t in complete}) < 2:
        return ""
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    except (ValueError, RuntimeError):  # no parameter varies, or all values are alike
        return ""
    return figures.bars(found, "share of what makes a trial one of the best") if found else ""


def _front(config: SearchConfig, rows: Sequence[Row]) -> str:
    skills = list(config.objectives)
    if not skills:
        return ""
    shown = {row.label: _pair(row.record, skills) for row in rows if row.state == "complete" and row.record}
    edge = [row.label for row in pareto_front(rows, skills)]
    return figures.front(shown, edge, (skills[0], skills[1]))


def _pair(record: Record, skills: Sequence[str]) -> tuple[float, float]:
    return record.skills[skills[0]].mean, record.skills[skills[1]].mean


def _samples(
    config: SearchConfig, folder: StudyFolder, rows: Sequence[Row], leading: Row | None
) -> dict[str, list[Sample]]:
    """Skill → items answered by the base, the sources and the leading candidate, those first where they differ most."""
    if leading is None or leading.record is None or not folder.answers.exists():
        return {}
    shown = ["base", *config.sources, leading.label]
    checksums = {row.label: row.record.checksum for row in rows if row.label in shown and row.record}
    found: dict[str, list[Sample]] = {}
    with AnswerStore(folder.answers) as store:
        for skill in config.skills:
            asked = {
                label: {r.item: r for r in store.results(checksum, skill)} for label, checksum in checksums.items()
            }
            ours, base = asked.get(leading.label, {}), asked.get("base", {})
            items = sorted(ours.keys() & base.keys(), key=lambda item: (-_apart(ours[item], base[item]), item))
            chosen = dict.fromkeys([*items[:2], *items[-1:]])  # the two that gained most, and what lost most
            found[skill] = [
                Sample(
                    item,
                    _cut(ours[item].prompt),
                    [(label, _cut(a[item].answer), _score(a[item])) for label, a in asked.items() if item in a],
                )
                for item in chosen
            ]
    return {skill: samples for skill, samples in found.items() if samples}


def _apart(one: ItemResult, other: ItemResult) -> float:
    return (one.score.value or 0.0) - (other.score.value or 0.0)


def _score(result: ItemResult) -> str:
    return "unscored" if result.score.value is None else f"{result.score.value:.3f}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} […] {text[-LONGEST // 2 :]}"
