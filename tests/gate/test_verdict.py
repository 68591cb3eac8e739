"""Who is promoted, who is not, and what the reason says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from automerge.config import GateRule, validate
from automerge.gate import statistics
from automerge.gate.statistics import Scores, difference
from automerge.gate.verdict import Verdict, judge
from automerge.records import from_json, to_json

N = 200
Model = dict[str, Scores]


def model(**right: int) -> Model:
    """Skill → scores: the first `right` of N items are right."""
    return {skill: (np.arange(N) < count).astype(float) for skill, count in right.items()}


def rule(**data: object) -> GateRule:
    return validate(GateRule, {"skill": "prose", **data}, "here")


def verdict(
    candidates: Mapping[str, Model], baselines: Mapping[str, Model], *gates: GateRule, **changes: Any
) -> Verdict:
    how: dict[str, Any] = {"objective": {"sums": 1.0}, "confidence": 0.95, "seed": 0}
    return judge(candidates, baselines, gates=gates, **how | changes)


BASE = model(sums=80, prose=120)
GOOD = model(sums=120, prose=120)
BASELINES = {"base": BASE, "math": model(sums=100, prose=60)}
FENCE = rule(no_worse_than="base", margin=0.02)


def test_promoted() -> None:
    found = verdict({"trial 7": GOOD}, BASELINES, FENCE)
    assert (found.outcome, found.winner, found.use) == ("PROMOTED", "trial 7", 1)
    (judged,) = found.judged
    ahead = judged.differences["base"]
    assert judged.rival == "base"
    assert found.reason == judged.reason
    assert found.reason == (
        f"trial 7 beats the best baseline, base, by 0.2000 [{ahead.low:+.4f}, {ahead.high:+.4f}], and meets every gate"
    )
    assert all(gate.met for gate in judged.gates)


def test_rejected_by_a_gate() -> None:
    found = verdict({"trial 7": model(sums=200, prose=100)}, BASELINES, FENCE)
    assert (found.outcome, found.winner) == ("REJECTED", None)
    assert found.reason == "trial 7 breaks the gate prose no worse than base (margin 0.02), by 0.0800"


def test_what_the_outcome_is_about_comes_first() -> None:
    better_but = model(sums=200, prose=100)
    found = verdict({"trial 7": better_but, "trial 9": model(sums=82, prose=120)}, BASELINES, FENCE)
    assert found.outcome == "INCONCLUSIVE" and found.winner is None
    assert found.leading is not None and found.leading.name == "trial 9"
    assert found.reason == found.leading.reason
    assert [judged.name for judged in found.judged] == ["trial 9", "trial 7"]
    assert verdict({}, BASELINES, FENCE).leading is None


def test_a_gate_is_told_before_a_better_baseline() -> None:
    found = verdict({"trial 7": model(sums=10, prose=10)}, BASELINES, FENCE)
    assert found.reason.startswith("trial 7 breaks the gate prose")


def test_rejected_by_a_baseline() -> None:
    found = verdict({"trial 7": model(sums=70, prose=120)}, BASELINES, FENCE)
    assert (found.outcome, found.winner) == ("REJECTED", None)
    assert found.reason == "the baseline base is better than trial 7, by 0.0500"


def test_a_draw_is_no_promotion() -> None:
    found = verdict({"trial 7": model(sums=80, prose=120)}, BASELINES, FENCE)
    assert found.outcome == "REJECTED"
    assert found.reason == "trial 7 is no better than the baseline base: their scores are equal"


def test_inconclusive_by_noise_says_how_many_items_would_tell() -> None:
    noisy = {**BASE, "sums": BASE["sums"].copy()}
    noisy["sums"][80:92], noisy["sums"][:8] = 1.0, 0.0  # twelve won, eight lost
    found = verdict({"trial 7": noisy}, BASELINES, FENCE)
    assert (found.outcome, found.winner) == ("INCONCLUSIVE", None)
    ahead = found.judged[0].differences["base"]
    needed = statistics.items_for(ahead, ahead.estimate)
    assert ahead.low <= 0 and needed > N
    assert found.reason == (
        f"trial 7 is ahead of the baseline base by {ahead.estimate:.4f}, inside the noise "
        f"[{ahead.low:+.4f}, {ahead.high:+.4f}]; about {needed} held-out items would tell"
    )


def test_inconclusive_by_a_gate_says_how_many_items_would_tell() -> None:
    found = verdict({"trial 7": model(sums=120, prose=118)}, BASELINES, FENCE)
    assert (found.outcome, found.winner) == ("INCONCLUSIVE", None)
    (gate,) = found.judged[0].gates
    assert not gate.met and not gate.broken
    assert found.reason == (
        f"trial 7 may break the gate prose no worse than base (margin 0.02): the lower bound {gate.interval.low:+.4f} "
        f"lies below -0.0200; about {gate.items_needed} held-out items of prose would tell"
    )


def test_no_number_of_items_tells_what_lies_on_the_bound() -> None:
    found = verdict({"trial 7": model(sums=120, prose=120)}, BASELINES, rule(no_worse_than="base"))
    assert found.outcome == "INCONCLUSIVE"
    assert found.reason.endswith("no number of held-out items of prose would tell")


def test_no_candidates() -> None:
    found = verdict({}, BASELINES, FENCE)
    assert (found.outcome, found.winner, found.judged) == ("REJECTED", None, [])
    assert found.reason == "there is no candidate"
    assert [row.name for row in found.rows] == ["base", "math"]


# --- whom it must beat -------------------------------------------------------------------------------------------


def test_the_rival_is_the_best_baseline_that_meets_the_gates() -> None:
    baselines = {"base": BASE, "math": model(sums=150, prose=60), "average": model(sums=90, prose=119)}
    candidate = {"trial 7": model(sums=130, prose=120)}
    assert verdict(candidate, baselines, FENCE).judged[0].rival == "average"
    assert verdict(candidate, baselines).judged[0].rival == "math"
    assert verdict(candidate, baselines).reason == "the baseline math is better than trial 7, by 0.1000"
    assert verdict(candidate, baselines, FENCE).outcome == "PROMOTED"


def test_where_no_baseline_meets_the_gates_the_rival_is_the_best_of_all() -> None:
    found = verdict({"trial 7": model(sums=130, prose=200)}, BASELINES, rule(min=0.9))
    assert found.judged[0].rival == "math"
    assert found.outcome == "PROMOTED"


def test_the_objective_is_weighted() -> None:
    baselines = {"base": model(sums=100, prose=100), "math": model(sums=140, prose=70)}
    for objective, rival in (({"sums": 1.0, "prose": 3.0}, "base"), ({"sums": 3.0, "prose": 1.0}, "math")):
        found = verdict({"trial 7": model(sums=180, prose=180)}, baselines, objective=objective)
        assert found.judged[0].rival == rival


# --- several candidates ------------------------------------------------------------------------------------------


def test_the_best_outcome_wins_then_the_best_score() -> None:
    candidates = {
        "broken": model(sums=200, prose=20),
        "unsure": model(sums=190, prose=118),
        "good": model(sums=120, prose=126),
        "better": model(sums=130, prose=126),
    }
    found = verdict(candidates, BASELINES, FENCE)
    assert found.winner == "better"
    assert {judged.name: judged.outcome for judged in found.judged} == {
        "broken": "REJECTED",
        "unsure": "INCONCLUSIVE",
        "good": "PROMOTED",
        "better": "PROMOTED",
    }
    assert [row.name for row in found.rows] == [*candidates, *BASELINES]
    del candidates["good"], candidates["better"]
    found = verdict(candidates, BASELINES, FENCE)
    assert (found.outcome, found.winner) == ("INCONCLUSIVE", None) and found.reason.startswith("unsure")


def test_trying_several_costs_confidence() -> None:
    alone = verdict({"a": GOOD}, BASELINES)
    three = verdict({"a": GOOD, "b": BASE, "c": BASE}, BASELINES)
    assert alone.judged[0].differences["base"].confidence == pytest.approx(0.95)
    corrected = three.judged[0].differences["base"]
    assert corrected.confidence == pytest.approx(1 - 0.05 / 3)
    gate = verdict({"a": GOOD, "b": BASE}, BASELINES, rule(min=0.5, confidence=0.9)).judged[0].gates[0]
    assert gate.interval.confidence == pytest.approx(2 * (1 - 0.1 / 2) - 1)  # one-sided, for two candidates
    wanted = difference(GOOD, BASE, {"sums": 1.0}, confidence=corrected.confidence, seed=0)
    assert corrected == wanted
    assert corrected.low < alone.judged[0].differences["base"].low
    assert three.confidence == three.rows[0].objective.confidence == 0.95  # what is shown is not corrected


def test_a_lead_that_convinces_alone_may_not_among_many() -> None:
    ahead = {**BASE, "sums": BASE["sums"].copy()}
    ahead["sums"][80:86], ahead["sums"][:1] = 1.0, 0.0  # six won, one lost
    names = [f"trial {number}" for number in range(20)]
    assert verdict({"trial 0": ahead}, BASELINES, objective={"sums": 1.0}, confidence=0.9).outcome == "REJECTED"
    only_base = {"base": BASE}
    assert verdict({"trial 0": ahead}, only_base, confidence=0.9).outcome == "PROMOTED"
    assert verdict(dict.fromkeys(names, ahead), only_base, confidence=0.9).outcome == "INCONCLUSIVE"


# --- rows and records --------------------------------------------------------------------------------------------


def test_rows_show_every_skill() -> None:
    found = verdict({"trial 7": GOOD}, BASELINES, FENCE, use=2)
    row = found.rows[0]
    assert {skill: interval.estimate for skill, interval in row.skills.items()} == {"sums": 0.6, "prose": 0.6}
    assert row.objective.estimate == 0.6 and row.objective.low < 0.6 < row.objective.high
    assert set(found.judged[0].differences) == {"base", "math"}
    assert found.use == 2


def test_a_verdict_is_kept_as_json() -> None:
    found = verdict({"trial 7": GOOD}, BASELINES, FENCE)
    assert from_json(Verdict, to_json(found)) == found


def test_the_same_seed_gives_the_same_verdict() -> None:
    def of(**changes: Any) -> Verdict:  # an objective of two skills is resampled
        return verdict({"trial 7": GOOD}, BASELINES, FENCE, objective={"sums": 1.0, "prose": 1.0}, **changes)

    assert of() == of()
    assert of() != of(seed=1)


def test_other_mask_seeds_are_told_and_decide_nothing() -> None:
    plain = verdict({"trial 7": GOOD}, BASELINES, FENCE)
    found = verdict({"trial 7": GOOD}, BASELINES, FENCE, seeds={"trial 7": [model(sums=10), model(sums=110)]})
    assert (found.outcome, found.winner, found.rows) == (plain.outcome, plain.winner, plain.rows)
    assert found.judged[0].over_seeds == (0.6, 0.05, 0.55)
    assert found.reason == (
        f"{plain.reason}; over 3 mask seeds its objective is 0.4000 on average, from 0.0500 to 0.6000, "
        "with its own 0.6000"
    )
    assert from_json(Verdict, to_json(found)) == found


# --- how often it is wrong ---------------------------------------------------------------------------------------


def study(seed: int, ahead: float) -> Verdict:
    """Three candidates and a base on 80 items of varying difficulty; the first candidate is better by `ahead`."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(80)

    def answers(level: float) -> Model:
        return {"sums": (difficulty + 0.2 * rng.standard_normal(80) < level).astype(float)}

    candidates = {"one": answers(0.5 + ahead), "two": answers(0.5), "three": answers(0.5)}
    return verdict(candidates, {"base": answers(0.5)}, seed=seed)


def test_noise_is_seldom_promoted_and_skill_mostly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    by_luck = sum(study(seed, ahead=0.0).outcome == "PROMOTED" for seed in range(200))
    assert by_luck <= 10
    by_skill = [study(seed, ahead=0.25) for seed in range(40)]
    assert sum(found.winner == "one" for found in by_skill) >= 30
