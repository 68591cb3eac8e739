"""Exact intervals: their errors are summed over every table there is, not sampled."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from automerge.gate import exact
from automerge.gate.statistics import difference


def differences(ahead: int, behind: int, n: int) -> exact.Numbers:
    return np.repeat([1.0, -1.0, 0.0], [ahead, behind, n - ahead - behind])


def tables(n: int) -> list[tuple[int, int]]:
    return [(b, c) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n]


def chance(b: int, c: int, n: int, p: float, q: float) -> float:
    rest = n - b - c
    ways = math.factorial(n) // (math.factorial(b) * math.factorial(c) * math.factorial(rest))
    return float(ways * p**b * q**c * (1 - p - q) ** rest)


@pytest.mark.parametrize(("n", "confidence"), [(10, 0.9), (12, 0.95), (16, 0.9)])
def test_neither_bound_errs_more_often_than_it_may(n: int, confidence: float) -> None:
    bounds = {table: exact.interval(differences(*table, n), confidence) for table in tables(n)}
    worst = [0.0, 0.0]
    for psi in (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.0):
        for delta in np.linspace(-psi, psi, 9):
            p, q = (psi + delta) / 2, (psi - delta) / 2
            above = sum(chance(*t, n, p, q) for t, (low, _) in bounds.items() if low > delta + 1e-4)
            below = sum(chance(*t, n, p, q) for t, (_, high) in bounds.items() if high < delta - 1e-4)
            worst = [max(worst[0], above), max(worst[1], below)]
    error = (1 - confidence) / 2
    assert max(worst) <= error + 1e-3  # ψ is looked at on a grid
    assert min(worst) > 0.4 * error  # and it is no interval of fear


@pytest.mark.parametrize(("ahead", "behind", "n"), [(20, 5, 60), (45, 20, 300), (60, 60, 500), (3, 30, 120)])
def test_with_many_items_it_is_about_the_bootstraps(ahead: int, behind: int, n: int) -> None:
    low, high = exact.interval(differences(ahead, behind, n), 0.95)
    graded = 0.999 * differences(ahead, behind, n)
    zero = np.zeros(n)
    other = difference({"s": graded}, {"s": zero}, {"s": 1.0}, confidence=0.95, seed=0)
    assert low < (ahead - behind) / n < high
    assert (high - low) == pytest.approx(other.high - other.low, rel=0.25)


@pytest.mark.parametrize(("ahead", "behind"), [(5, 0), (6, 0), (8, 1), (9, 1), (10, 3), (14, 3), (20, 8), (25, 8)])
def test_what_it_calls_better_the_sign_test_does_not_call_chance(ahead: int, behind: int) -> None:
    """McNemar's exact test takes the discordant items as given, and is the more careful of the two."""
    low, _ = exact.interval(differences(ahead, behind, 60), 0.95)
    p_value = binomtest(ahead, ahead + behind, alternative="greater").pvalue
    assert (low > 0) == (p_value < 0.025) or 0.01 < p_value < 0.06


def test_changing_sides_mirrors_it_and_confidence_widens_it() -> None:
    low, high = exact.interval(differences(9, 4, 40), 0.95)
    assert exact.interval(differences(4, 9, 40), 0.95) == (-high, -low)
    wide = exact.interval(differences(9, 4, 40), 0.99)
    assert wide[0] < low < high < wide[1]
    assert exact.interval(differences(0, 0, 40), 0.95)[0] == pytest.approx(
        -exact.interval(differences(0, 0, 40), 0.95)[1]
    )


def test_a_share_of_nothing_and_of_everything() -> None:
    assert exact.proportion(0, 20, 0.95) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert exact.proportion(20, 20, 0.95) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_what_it_takes() -> None:
    assert exact.takes(differences(1, 2, 10))
    assert not exact.takes(np.array([0.5, 1.0]))
    assert not exact.takes(np.zeros(exact.MOST_ITEMS + 1))
