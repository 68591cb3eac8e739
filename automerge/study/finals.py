"""The end of a study: the best candidates and every baseline on held-out items, and the verdict."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import optuna

from automerge.gate.statistics import Scores
from automerge.gate.verdict import Verdict, judge
from automerge.merge.registry import get_method
from automerge.recipe import Recipe, Value, parse_recipe, with_router
from automerge.records import from_json
from automerge.space.baselines import Baseline
from automerge.space.space import SearchSpace
from automerge.study.crew import run_jobs
from automerge.study.events import Began, Judgement, Listen, Stage
from automerge.study.records import Row, study_rows
from automerge.study.store import VERDICTS
from automerge.study.trial import Attempt, Candidates


def candidates(rows: list[Row], count: int, objectives: Sequence[str] = ()) -> list[Row]:
    """The best feasible trials by search score, merges that a better one or a baseline equals left out. With several
    objectives only those on the Pareto front, the best by their mean first."""
    seen = {row.record.checksum for row in rows if row.is_baseline and row.record}
    best: list[Row] = []
    feasible = [row for row in rows if not row.is_baseline and row.state == "complete" and row.record]
    if objectives:
        feasible = pareto_front(feasible, objectives)
    for row in sorted(feasible, key=lambda r: (-(r.value or 0.0), r.number)):
        if row.record and row.record.feasible and row.record.checksum not in seen and len(best) < count:
            seen.add(row.record.checksum)
            best.append(row)
    return best


def pareto_front(rows: Sequence[Row], objectives: Sequence[str]) -> list[Row]:
    """Those of the candidates that were asked everything and meet the gates than which no other is as good in every
    objective and better in one."""
    points = {
        index: [row.record.skills[skill].mean for skill in objectives]
        for index, row in enumerate(rows)
        if row.state == "complete" and row.record and row.record.feasible
    }

    def dominated(point: list[float]) -> bool:
        return any(o != point and all(a >= b for a, b in zip(o, point, strict=True)) for o in points.values())

    return [rows[index] for index, point in points.items() if not dominated(point)]


def prove(
    study: optuna.Study, space: SearchSpace, baselines: list[Baseline], bench: Candidates, listen: Listen
) -> Verdict:
    """The verdict for the study as it stands. One made for the same trials is returned again, nothing asked anew."""
    rows = study_rows(study)
    finished = sum(row.finished for row in rows)
    past: list[dict[str, object]] = json.loads(study.user_attrs.get(VERDICTS, "[]"))
    if past and past[-1]["finished"] == finished:
        verdict = from_json(Verdict, json.dumps(past[-1]["verdict"]))
        listen(Judgement(verdict))
        return verdict
    best = candidates(rows, space.config.verdict.candidates, space.config.objectives)
    recipes = {row.label: with_router(_recipe(row), Path(space.models.router.path)) for row in best}
    others = {label: _other_seeds(label, recipe, space.config.verdict.seeds) for label, recipe in recipes.items()}
    known = {row.label: row for row in rows if row.is_baseline}
    proofs = [_Proof(row.label, recipes[row.label], row) for row in best]
    proofs += [_Proof(b.name, b.recipe, known.get(b.name)) for b in baselines]
    asked = [*proofs, *(proof for own in others.values() for proof in own)]
    listen(Stage("proving", len(asked)))
    _ask(bench, asked, listen)
    tried = {proof.label: proof.scores for proof in proofs[: len(best)]}
    against = {proof.label: proof.scores for proof in proofs[len(best) :]}
    verdict = judge(
        tried,
        against,
        objective=space.config.weights,
        gates=space.config.gates,
        confidence=space.config.verdict.confidence,
        seed=space.config.seed,
        use=len(past) + 1,
        seeds={label: [proof.scores for proof in own] for label, own in others.items()},
        nobody=_why_nobody(rows),
    )
    past.append({"finished": finished, "verdict": asdict(verdict)})
    study.set_user_attr(VERDICTS, json.dumps(past))
    listen(Judgement(verdict))
    return verdict


def _why_nobody(rows: Sequence[Row]) -> str:
    """Why no trial came to be a candidate for the verdict, in a sentence."""
    tried = [row for row in rows if not row.is_baseline and row.finished]
    if not tried:
        count = sum(row.is_baseline for row in rows)
        return f"there is no candidate yet: the {count} baselines took the whole budget, a larger one proposes merges"
    broken = {row.label: row.record.violations for row in tried if row.record and not row.record.feasible}
    broken = {label: violations for label, violations in broken.items() if violations}
    if not broken:
        return "there is no candidate: every trial failed, or equals a baseline"
    nearest = min(broken, key=lambda label: sum(max(amount, 0.0) for amount in broken[label].values()))
    missed = ", ".join(f"{gate} by {amount:.4f}" for gate, amount in broken[nearest].items() if amount > 0)
    return f"no trial met the gates on search items; {nearest} came nearest, and breaks {missed}"


def last_verdict(study: optuna.Study) -> Verdict | None:
    """The newest verdict of a study, None where there is none yet."""
    past = json.loads(study.user_attrs.get(VERDICTS, "[]"))
    return from_json(Verdict, json.dumps(past[-1]["verdict"])) if past else None


def _recipe(row: Row) -> Recipe:
    assert row.record is not None
    return parse_recipe(row.record.recipe)


def _other_seeds(label: str, recipe: Recipe, seeds: int) -> "list[_Proof]":
    """The same merge with the next mask seeds, so many in all with its own; none where nothing is dropped at random."""
    random = get_method(recipe.method).random
    if not random or not any(_drops(group.values.get("drop", 0.0)) for group in recipe.groups):
        return []
    return [
        _Proof(f"{label}, mask seed {seed}", replace(recipe, seed=seed), None)
        for seed in range(recipe.seed + 1, recipe.seed + seeds)
    ]


def _drops(drop: Value) -> bool:
    return any(drop.values()) if isinstance(drop, Mapping) else drop > 0


@dataclass
class _Proof:
    """A model to be asked the held-out items, and its scores: skill → (n,), NaN where unscored."""

    label: str
    recipe: Recipe
    row: Row | None
    scores: dict[str, Scores] = field(default_factory=dict)


def _ask(bench: Candidates, proofs: Sequence[_Proof], listen: Listen) -> None:
    """Asks each of them. What was scored in the search must be what is served now."""

    def told() -> Iterator[_Proof]:
        for proof in proofs:
            listen(Began(proof.label))
            yield proof

    def work(proof: _Proof) -> None:
        record = proof.row.record if proof.row else None
        expected = record.checksum if record and record.checksum else None
        proof.scores = bench.attempt(Attempt(proof.recipe, proof.label, "held_out", expected)).scores()

    run_jobs(told(), lambda proof, running: True, work, lambda proof: None, bench.width, bench.halt)
