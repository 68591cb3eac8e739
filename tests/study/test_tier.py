"""The cheap tier predicts on the scale of full scores, knows how far off it is, and is silent where it cannot rank."""

import numpy as np
import pytest

from automerge.study.tier import ENOUGH, Tier


def taught(slope: float, noise: float, count: int = 20, *, seed: int = 0) -> Tier:
    random = np.random.default_rng(seed)
    tier = Tier(("math", "writing"), {"math": 1.0, "writing": 1.0})
    for like in random.uniform(0.1, 0.5, count):
        score = float(np.clip(0.1 + slope * like + random.normal(0, noise), 0, 1))
        tier.learn(str(like), {"math": float(like)}, {"math": score, "writing": 0.5 + float(random.normal(0, 0.01))})
    return tier


def test_a_line_is_found_and_the_error_is_about_right() -> None:
    found = taught(1.5, 0.02).predict({"math": 0.3})
    assert found is not None
    assert found.skills["math"] == pytest.approx(0.55, abs=0.03)
    assert found.skills["writing"] == pytest.approx(0.5, abs=0.02)  # no likelihood: its mean
    assert found.objective == pytest.approx(0.525, abs=0.03)
    assert 0.005 < found.error < 0.03


def test_what_does_not_rank_predicts_nothing() -> None:
    tier = taught(0.0, 0.1, seed=3)
    agreement = tier.agreement()
    assert agreement is not None and agreement < 0.5
    assert tier.predict({"math": 0.3}) is None


def test_nothing_is_predicted_from_few() -> None:
    tier = taught(1.5, 0.01, count=ENOUGH - 1)
    assert tier.agreement() is None
    assert tier.predict({"math": 0.3}) is None


def test_predictions_stay_within_scores() -> None:
    found = taught(1.5, 0.01).predict({"math": 5.0})
    assert found is not None and found.skills["math"] == 1.0


def test_the_order_of_learning_does_not_matter() -> None:
    random = np.random.default_rng(5)
    seen = [
        (str(n), {"math": x}, {"math": x * 1.1 + e, "writing": e})
        for n, (x, e) in enumerate(random.uniform(0, 0.4, (12, 2)))
    ]
    tiers = [Tier(("math", "writing"), {"math": 1.0, "writing": 1.0}) for _ in range(2)]
    for name, cheap, full in seen:
        tiers[0].learn(name, cheap, full)
    for name, cheap, full in reversed(seen):
        tiers[1].learn(name, cheap, full)
    assert tiers[0].predict({"math": 0.3}) == tiers[1].predict({"math": 0.3})
