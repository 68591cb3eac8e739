"""`automerge eval MODEL… --skills …`: the same scoring for any checkpoint or adapter, with paired differences."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from automerge.cli.options import AsJson
from automerge.config import EngineConfig, locate
from automerge.engine.start import start_engine
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.run import evaluate
from automerge.evals.skill import load_skill
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import MIN_ITEMS, Scores, as_scores, difference, score_interval
from automerge.merge.models import open_models
from automerge.recipe import Group, make_recipe
from automerge.records import Interval
from automerge.report.tables import plain_table

CONFIDENCE = 0.95


def evaluate_models(
    models: Annotated[list[str], typer.Argument(help="Checkpoints: folders or hub ids; adapters need --base.")],
    skills: Annotated[list[str], typer.Option("--skills", help="Skill names or files; repeat, or separate by commas.")],
    base: Annotated[str | None, typer.Option(help="The model that adapters among MODELS were made for.")] = None,
    half: Annotated[Literal["held_out", "search"], typer.Option(help="Which half of a skill's items.")] = "held_out",
    seed: Annotated[int, typer.Option(help="Seed of the halves and the intervals.")] = 0,
    engine: Annotated[Literal["auto", "transformers", "vllm"], typer.Option(help="What serves the models.")] = "auto",
    answers: Annotated[Path | None, typer.Option(help="Keep prompts, answers and scores in this SQLite file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score models on skills. With several, each is compared with the first, item by item."""
    names = [name for entry in skills for name in entry.split(",") if name]
    loaded = [prepare(load_skill(name, folder=Path()), seed) for name in names]
    scores: dict[str, dict[str, Scores]] = {}
    with AnswerStore(answers) as store:
        for model in models:
            scores[model] = _scores(model, base, loaded, half, store, EngineConfig(name=engine))
    found = {model: {skill: _interval(s, seed) for skill, s in own.items()} for model, own in scores.items()}
    ahead = _ahead(scores, models, seed)
    if as_json:
        print(json.dumps([_as_json(model, found[model], ahead.get(model, {})) for model in models]))
    else:
        _print(models, found, ahead)


def _scores(
    model: str,
    base: str | None,
    skills: list[LoadedSkill],
    half: Literal["held_out", "search"],
    store: AnswerStore,
    serving: EngineConfig,
) -> dict[str, Scores]:
    """Skill → scores (n,), NaN where unscored. The model is served as the linear merge of itself alone."""
    place = locate(model, Path())
    root = locate(base, Path()) if base and (Path(place) / "adapter_config.json").exists() else place
    opened = open_models(root, {"model": place})
    whole = (Group((0, opened.n_layers), "all", {"weight": {"model": 1.0}}),)
    recipe = make_recipe(
        method="linear",
        base=opened.base_ref,
        sources=tuple(opened.source_refs),
        groups=whole,
        options={"normalize": True},
        dtype=opened.dtype,
        seed=0,
        tokenizer="model",
    )
    engine = start_engine(opened, serving)
    try:
        applied = engine.apply(recipe)
        results = {s.name: evaluate(engine, applied.checksum, s, half, store, tokenizer=place) for s in skills}
    finally:
        engine.close()
    return {skill: as_scores(own) for skill, own in results.items()}


def _interval(scores: Scores, seed: int) -> Interval:
    if np.count_nonzero(~np.isnan(scores)) < MIN_ITEMS:  # too few for an interval: the mean alone, and no claim
        return Interval(float(np.nanmean(scores)), 0.0, 1.0, CONFIDENCE, int(np.count_nonzero(~np.isnan(scores))))
    return score_interval({"": scores}, {"": 1.0}, confidence=CONFIDENCE, seed=seed)


def _ahead(scores: dict[str, dict[str, Scores]], models: list[str], seed: int) -> dict[str, dict[str, Interval]]:
    """Each later model minus the first, paired by item, where there are enough items."""
    first = scores[models[0]]
    return {
        model: {
            skill: difference(scores[model], first, {skill: 1.0}, confidence=CONFIDENCE, seed=seed)
            for skill in first
            if np.count_nonzero(~np.isnan(scores[model][skill] - first[skill])) >= MIN_ITEMS
        }
        for model in models[1:]
    }


def _as_json(model: str, found: dict[str, Interval], ahead: dict[str, Interval]) -> dict[str, object]:
    return {
        "model": model,
        "skills": {skill: asdict(interval) for skill, interval in found.items()},
        "minus_first": {skill: asdict(interval) for skill, interval in ahead.items()},
    }


def _print(models: list[str], found: dict[str, dict[str, Interval]], ahead: dict[str, dict[str, Interval]]) -> None:
    table = plain_table(f"{100 * CONFIDENCE:g}% intervals")
    table.add_column("model", overflow="fold")
    for skill in found[models[0]]:
        table.add_column(skill, justify="right")
    for model in models:
        table.add_row(model, *(f"{i.estimate:.4f} [{i.low:.4f}, {i.high:.4f}]" for i in found[model].values()))
    console = Console()
    console.print(table)
    for model, skills in ahead.items():
        for skill, i in skills.items():
            span = f"{i.estimate:+.4f} [{i.low:+.4f}, {i.high:+.4f}], paired, n = {i.n}"
            console.print(f"{model} minus {models[0]}, {skill}: {span}", highlight=False)
