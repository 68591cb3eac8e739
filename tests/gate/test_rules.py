"""A gate's sign, its margins, and its test on held-out items."""

import numpy as np
import pytest

from automerge.config import GateRule, validate
from automerge.gate.rules import try_gate, try_gates, violation
from automerge.gate.statistics import Scores, difference, score_interval
from automerge.records import Interval


def rule(**data: object) -> GateRule:
    return validate(GateRule, {"skill": "s", **data}, "here")


def scores(right: int, n: int = 100) -> dict[str, Scores]:
    """`right` of n items right, the first ones."""
    return {"s": (np.arange(n) < right).astype(float)}


# --- during the search -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "score", "wanted"),
    [
        (rule(min=0.6), 0.5, 0.1),
        (rule(min=0.6), 0.6, 0.0),
        (rule(min=0.6), 0.7, -0.1),
        (rule(no_worse_than="base"), 0.4, 0.1),
        (rule(no_worse_than="base"), 0.5, 0.0),
        (rule(no_worse_than="base", margin=0.02), 0.47, 0.01),
        (rule(no_worse_than="base", margin=0.02), 0.49, -0.01),
        (rule(no_worse_than="base", margin="2%"), 0.48, 0.01),  # 2% of 0.5
        (rule(no_worse_than="base", margin="2%"), 0.50, -0.01),
        (rule(no_worse_than="math", margin=0.1), 0.75, 0.05),
    ],
)
def test_violation(gate: GateRule, score: float, wanted: float) -> None:
    references = {"base": {"s": 0.5, "t": 0.0}, "math": {"s": 0.9, "t": 0.0}}
    assert violation(gate, score, references) == pytest.approx(wanted, abs=1e-12)


# --- at the end --------------------------------------------------------------------------------------------------


def test_a_minimum() -> None:
    for right, met, broken in ((90, True, False), (60, False, False), (40, False, True)):
        result = try_gate(rule(min=0.55), scores(right), {}, seed=0)
        assert (result.met, result.broken) == (met, broken)
        assert (result.gate, result.skill, result.bound) == ("s ≥ 0.55", "s", 0.55)
        assert result.interval.estimate == pytest.approx(right / 100)


def test_the_test_is_one_sided_at_the_gates_confidence() -> None:
    found = try_gate(rule(min=0.5, confidence=0.95), scores(60), {}, seed=3).interval
    assert found == score_interval(scores(60), {"s": 1.0}, confidence=2 * 0.95 - 1, seed=3)
    against = try_gate(rule(no_worse_than="base", confidence=0.8), scores(60), {"base": scores(55)}, seed=3).interval
    assert against.confidence == pytest.approx(0.6)
    wanted = difference(scores(60), scores(55), {"s": 1.0}, confidence=0.6, seed=3)
    assert (against.low, against.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_margins_are_absolute_or_of_the_references_score() -> None:
    references = {"base": scores(50), "math": scores(90)}
    assert try_gate(rule(no_worse_than="base"), scores(50), references, seed=0).bound == 0
    assert try_gate(rule(no_worse_than="base", margin=0.02), scores(50), references, seed=0).bound == -0.02
    assert try_gate(rule(no_worse_than="base", margin="2%"), scores(50), references, seed=0).bound == -0.01
    assert try_gate(rule(no_worse_than="math", margin="2%"), scores(50), references, seed=0).bound == pytest.approx(
        -0.018
    )


def test_no_worse_than_is_paired() -> None:
    """98 items alike and two lost are told from ten apart, however the scores themselves scatter."""
    reference = {"base": scores(50)}
    few_lost = try_gate(rule(no_worse_than="base", margin=0.07), scores(48), reference, seed=0)
    assert few_lost.met and not few_lost.broken
    many_lost = try_gate(rule(no_worse_than="base", margin=0.07), scores(40), reference, seed=0)
    assert many_lost.broken and not many_lost.met
    between = try_gate(rule(no_worse_than="base", margin=0.07), scores(46), reference, seed=0)
    assert not between.met and not between.broken
    assert between.items_needed > 100


def test_met_at_the_bound_and_broken_below_it() -> None:
    result = try_gate(rule(min=0.5), scores(60), {}, seed=0)
    at = Interval(0.6, result.bound, 0.7, 0.9, 100)
    assert type(result)(result.gate, "s", at, result.bound, 1).met
    on = Interval(result.bound, 0.4, 0.7, 0.9, 100)
    assert not type(result)(result.gate, "s", on, result.bound, 1).broken


def test_a_scored_item_less_changes_only_the_pairs() -> None:
    candidate = scores(60)
    candidate["s"][0] = np.nan
    assert try_gate(rule(no_worse_than="base"), candidate, {"base": scores(60)}, seed=0).interval.n == 99


def test_unscored_items_are_told() -> None:
    holes = scores(60)
    holes["s"][:3] = np.nan
    against = try_gate(rule(no_worse_than="base"), scores(60), {"base": holes}, seed=0)
    assert (against.unscored, against.interval.n) == (3, 97)
    assert try_gate(rule(min=0.5), holes, {}, seed=0).unscored == 3
    assert try_gate(rule(min=0.5), scores(60), {}, seed=0).unscored == 0


def test_gates_are_tried_in_order() -> None:
    gates = [rule(min=0.9), rule(no_worse_than="base"), rule(min=0.1)]
    found = try_gates(gates, scores(60), {"base": scores(50)}, seed=0)
    assert [result.gate for result in found] == [str(gate) for gate in gates]
    assert [result.broken for result in found] == [True, False, False]
    assert try_gates([], scores(60), {}, seed=0) == []
