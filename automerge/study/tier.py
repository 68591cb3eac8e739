"""The cheap tier: what a skill's likelihoods say about its score, learnt from candidates asked in full and baselines.

For each skill, score ≈ a + b · likelihood + c · likelihood² by least squares over those candidates (b and c only where
they predict unseen ones better); a skill without a likelihood is predicted by its mean. So a candidate stopped at the
tier is told to the sampler on the scale of all the others. How far predictions are off is measured on candidates left
out of the fit. A tier that does not rank them is not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.gate.statistics import shares

ENOUGH = 10  # candidates, before anything is predicted
AGREEMENT = 0.6  # Spearman's rank correlation of predicted and true objective, below which the tier is not used

Means = Mapping[str, float]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Each skill's expected mean on search items, the objective's, and the objective's standard error."""

    skills: dict[str, float]
    objective: float
    error: float
    skill_errors: dict[str, float]


@dataclass
class Tier:
    """What was learnt so far. `objective`: the skills' weights; `skills`: all of the study's."""

    skills: tuple[str, ...]
    objective: Mapping[str, float]
    _known: dict[str, tuple[Means, Means]] = field(default_factory=dict)  # by name, so in no order of their own

    def learn(self, name: str, cheap: Means, full: Means) -> None:
        """Adds a candidate: mean likelihoods, and mean scores, by skill."""
        self._known[name] = cheap, full

    def snapshot(self) -> "Tier":
        """What is known now, and stays so."""
        return replace(self, _known=dict(self._known))

    @property
    def known(self) -> int:
        return len(self._known)

    def agreement(self) -> float | None:
        """Spearman's correlation of the objective with its prediction by the other candidates; None: too few yet."""
        if self.known < ENOUGH:
            return None
        from scipy.stats import spearmanr  # slow to import

        truth, left_out = self._objectives()
        if np.ptp(truth) == 0 or np.ptp(left_out) == 0:
            return 0.0
        return float(spearmanr(truth, left_out).statistic)

    def predict(self, cheap: Means) -> Prediction | None:
        """What full evaluation would give; None where too little is known, or the tier does not predict."""
        agreement = self.agreement()
        if agreement is None or agreement < AGREEMENT:
            return None
        skills, errors = {}, {}
        for skill in self.skills:
            x, y = self._columns(skill)
            coefficients, left_out = _fit(x, y)
            value = np.polynomial.polynomial.polyval(cheap.get(skill, 0.0) - x.mean(), coefficients)
            skills[skill] = float(np.clip(value, 0.0, 1.0))
            errors[skill] = _root_mean_square(y - left_out)
        truth, unseen = self._objectives()
        objective = sum(share * skills[skill] for skill, share in shares(self.objective).items())
        return Prediction(skills, objective, _root_mean_square(truth - unseen), errors)

    def _objectives(self) -> tuple[Vector, Vector]:
        """(true, predicted from the others) objective of every known candidate."""
        truth, left_out = np.zeros(self.known), np.zeros(self.known)
        for skill, share in shares(self.objective).items():
            x, y = self._columns(skill)
            truth += share * y
            left_out += share * _fit(x, y)[1]
        return truth, left_out

    def _columns(self, skill: str) -> tuple[Vector, Vector]:
        pairs = [self._known[name] for name in sorted(self._known)]
        return np.array([cheap.get(skill, 0.0) for cheap, _ in pairs]), np.array([full[skill] for _, full in pairs])


def _fit(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """(coefficients of y ≈ a + b x + c x², each y as the curve through the other points has it).

    By least squares: of mean, line and parabola the one that predicts points it has not seen best. A left-out y is
    y − e ÷ (1 − h), residual e and leverage h.
    """
    best: tuple[float, Vector, Vector] | None = None
    for terms in (1, 2, 3):
        if terms > 1 and (np.ptp(x) < 1e-9 or len(x) < 2 * terms):
            break
        powers = np.vander(x - x.mean(), terms, increasing=True)
        q, r = np.linalg.qr(powers)
        coefficients = np.linalg.solve(r, q.T @ y)
        leverage = (q**2).sum(axis=1)
        left_out: Vector = y - (y - powers @ coefficients) / np.maximum(1 - leverage, 1e-9)
        error = _root_mean_square(y - left_out)
        if best is None or error < best[0]:
            best = error, coefficients, left_out
    assert best is not None
    return best[1], best[2]


def _root_mean_square(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
