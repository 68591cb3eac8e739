"""`automerge gate MODEL --against MODEL --skills …`: may this model replace that one? For CI: exit 0, or 3 for no."""

import json
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.intervals import fields
from automerge.cli.opening import open_asked
from automerge.cli.options import Answers, AsJson, Base, Half, ItemSeed, Serving, Skills
from automerge.config import EngineConfig, GateRule, Margin, validate
from automerge.errors import SkillError
from automerge.evals.models import evaluate_model
from automerge.evals.store import AnswerStore
from automerge.gate.rules import GateResult, try_gates
from automerge.gate.statistics import MIN_ITEMS, Scores, as_scores
from automerge.report.tables import gate_lines


def gate(
    model: Annotated[str, typer.Argument(help="The checkpoint on trial: a folder or hub id; an adapter needs --base.")],
    against: Annotated[str, typer.Option("--against", help="The checkpoint that it must not fall behind.")],
    skills: Skills,
    margin: Annotated[str, typer.Option(help="What may be lost: 0.02, or 1% of the other's score.")] = "0.01",
    confidence: Annotated[float, typer.Option(help="Of the one-sided test, between 0.5 and 1.")] = 0.95,
    base: Base = None,
    half: Half = "held_out",
    seed: ItemSeed = 0,
    engine: Serving = "auto",
    answers: Answers = None,
    as_json: AsJson = False,
) -> int:
    """Hold a model to another, skill by skill, on the same items. Exit 0 where every gate is met, 3 where not."""
    test = _test(margin, confidence)
    loaded = open_asked([against, model], base, skills, seed)
    for skill in loaded:
        if (count := len(skill.half(half))) < MIN_ITEMS:
            message = f"a gate needs at least {MIN_ITEMS} items, got {count} in the half {half}"
            raise SkillError(message, where=skill.name, hint="Raise its items, or take the other half with --half.")
    rules = [validate(GateRule, {"skill": s.name, "no_worse_than": against, **test}, "gate") for s in loaded]
    scores: dict[str, dict[str, Scores]] = {}
    with AnswerStore(answers) as store:
        for name in (against, model):
            results = evaluate_model(name, base, loaded, half, store, EngineConfig(name=engine))
            scores[name] = {skill: as_scores(own) for skill, own in results.items()}
    found = try_gates(rules, scores[model], {against: scores[against]}, seed=seed)
    met = all(result.met for result in found)
    if as_json:
        print(json.dumps({"met": met, "gates": [_as_json(result) for result in found]}))
    else:
        console = make_console()
        for line in gate_lines(found):
            console.print(line)
        console.print("passes" if met else "does not pass", style="green" if met else "red")
    return 0 if met else 3


def _test(margin: str, confidence: float) -> dict[str, object]:
    """Raises a usage error for a margin that is none."""
    try:
        amount: object = margin if margin.strip().endswith("%") else float(margin)
        Margin.model_validate(amount)
    except ValueError as error:
        raise typer.BadParameter(f"expected a margin such as 0.02 or 1%, got {margin!r}") from error
    if not 0.5 < confidence < 1:
        raise typer.BadParameter(f"expected a confidence between 0.5 and 1, got {confidence:g}")
    return {"margin": amount, "confidence": confidence}


def _as_json(result: GateResult) -> dict[str, object]:
    return {
        "gate": result.gate,
        "skill": result.skill,
        "met": result.met,
        **fields(result.interval),  # two-sided, so that its lower end is the one-sided bound
        "bound": result.bound,
        "unscored": result.unscored,
        "items_needed": result.items_needed,
    }
