"""Racing stops what is behind and leaves what is not: error rates by simulation, for 0/1 and for smooth scores."""

import numpy as np
import pytest

from automerge.config import GateRule, Margin
from automerge.study.race import STOPPED_EQUALS, Look, Race, nominal_level

ITEMS, BLOCK = 120, 20  # of each of two skills
WEIGHTS = {"math": 1.0, "code": 1.0}


def outcomes(random: np.random.Generator, shift: float, changed: float) -> tuple[dict, dict]:
    """(candidate, incumbent): 0/1 scores of which a share `changed` differ, the candidate better by `shift`."""
    candidate, incumbent = {}, {}
    for skill in WEIGHTS:
        ours = random.random(ITEMS) < 0.5
        up = np.where(~ours, changed + shift, 0.0)
        down = np.where(ours, changed - shift, 0.0)
        flips = random.random(ITEMS) < up + down
        candidate[skill] = np.where(flips, ~ours, ours).astype(float)
        incumbent[skill] = ours.astype(float)
    return candidate, incumbent


def stopped_after(race: Race, candidate: dict, incumbent: dict) -> int:
    """Items asked in all until it was stopped, or every one."""
    look = Look.over(2 * ITEMS, 2 * ITEMS // BLOCK)
    for done in range(BLOCK, 2 * ITEMS, BLOCK):
        part = {
            "math": candidate["math"][: -(-done // BLOCK // 2) * BLOCK],
            "code": candidate["code"][: done // BLOCK // 2 * BLOCK],
        }
        if min(map(len, part.values())) and look.due(done) and race.behind(part, incumbent, look):
            return done
    return 2 * ITEMS


def rates(shift: float, changed: float, count: int = 1500) -> tuple[float, float]:
    """(share stopped, share of the items asked)."""
    random = np.random.default_rng(1)
    race = Race(WEIGHTS, [])
    asked = [stopped_after(race, *outcomes(random, shift, changed)) for _ in range(count)]
    return float(np.mean([n < 2 * ITEMS for n in asked])), float(np.mean(asked)) / (2 * ITEMS)


@pytest.mark.parametrize("changed", [0.1, 0.2, 0.4])
def test_equal_and_better_candidates_are_seldom_stopped(changed: float) -> None:
    # 3 standard errors of 1500 tries above the stated rates
    assert rates(0.0, changed)[0] <= STOPPED_EQUALS + 0.011
    assert rates(0.05, changed)[0] <= 0.005 + 0.0055


def test_a_candidate_0_15_worse_is_stopped_early() -> None:
    stopped, cost = rates(-0.15, 0.2)
    assert stopped >= 0.9
    assert cost <= 0.5


def test_a_hair_of_likelihood_is_told_from_nothing() -> None:
    random = np.random.default_rng(2)
    incumbent = {skill: random.uniform(0.2, 0.8, ITEMS) for skill in WEIGHTS}
    noise = {skill: random.normal(0, 0.01, ITEMS) for skill in WEIGHTS}
    race = Race(WEIGHTS, [])
    assert stopped_after(race, {s: incumbent[s] + noise[s] - 0.01 for s in WEIGHTS}, incumbent) < 2 * ITEMS
    assert stopped_after(race, {s: incumbent[s] + noise[s] + 0.01 for s in WEIGHTS}, incumbent) == 2 * ITEMS


def test_without_any_spread_one_item_is_in_doubt() -> None:
    race, look = Race({"math": 1.0}, []), Look.over(200, 10)
    ones = {"math": np.ones(200)}
    assert not race.behind({"math": np.ones(100)}, ones, look)
    assert race.behind({"math": np.zeros(100)}, ones, look)


def test_few_items_conclude_nothing() -> None:
    race = Race({"math": 1.0}, [])
    assert not race.behind({"math": np.zeros(20)}, {"math": np.ones(200)}, Look.over(200, 10))


def test_unscored_items_drop_out_of_the_pairs() -> None:
    race, look = Race({"math": 1.0}, []), Look.over(200, 10)
    candidate = np.where(np.arange(100) % 2, np.nan, 0.0)
    assert race.behind({"math": candidate}, {"math": np.ones(200)}, look)
    assert not race.behind({"math": np.full(100, np.nan)}, {"math": np.ones(200)}, look)


def test_a_gate_beyond_reach_is_named() -> None:
    floor = GateRule(skill="math", min=0.5)
    relative = GateRule(skill="code", no_worse_than="base", margin=Margin(amount=0.1))
    look = Look.over(400, 10)
    base = {"base": {"math": np.ones(200), "code": np.ones(200)}}
    good = {"math": np.ones(100), "code": np.ones(100)}
    assert Race(WEIGHTS, [floor, relative]).failing(good, base, look) is None
    assert Race(WEIGHTS, [floor, relative]).failing({**good, "math": np.zeros(100)}, base, look) == floor
    assert Race(WEIGHTS, [floor, relative]).failing({**good, "code": np.zeros(100)}, base, look) == relative


def test_the_level_falls_with_the_number_of_looks() -> None:
    levels = [nominal_level(looks, 0.02) for looks in (1, 2, 4, 8, 16)]
    assert levels[0] == pytest.approx(0.02, abs=0.002)
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0.02 / 16  # less is lost than by Bonferroni


def test_looks_are_evenly_spread() -> None:
    look = Look.over(1000, 200)
    assert sum(look.due(done) for done in range(5, 1000, 5)) <= look.most
    assert not look.due(1000)
