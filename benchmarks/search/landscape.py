"""A recorded landscape of real merges, and the scores of a point between them.

A Gaussian process with one length a parameter (squared-exponential kernel, fitted to the recorded objective by
marginal likelihood) gives every point its weights on the recorded merges. An item's smoothed score is the weighted sum
of its recorded 0s and 1s about their mean; it is answered right where that reaches a half. Likelihoods and tokens are
smoothed alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = NDArray[np.float64]


@dataclass
class Scored:
    """One point: 0/1, likelihood and tokens of every item (I,)."""

    right: Array
    likely: Array
    tokens: Array


class Landscape:
    """P recorded merges of D parameters, I items of S skills."""

    def __init__(self, path: Path, keep: Any = slice(None)) -> None:
        """`keep` selects recorded merges, to measure the others against."""
        file = np.load(path)
        self.names: list[str] = list(file["names"])
        self.skills: list[str] = list(file["skills"])
        self.skill = file["skill"]
        self.low, self.high = file["low"], file["high"]
        self.points = self._unit(file["points"].astype(float))[keep]
        self.right = np.unpackbits(file["right"], axis=1, count=len(self.skill))[keep].astype(np.float32)
        self.likely = file["likely"][keep].astype(np.float32) / 255
        self.tokens = file["tokens"][keep].astype(np.float32)
        self._kept: dict[bytes, Scored] = {}

    def _unit(self, points: Array) -> Array:
        return (points - self.low) / (self.high - self.low)

    @cached_property
    def objective(self) -> Array:
        """(P,) the mean over skills of the share of right answers."""
        return np.mean([self.right[:, self.skill == s].mean(axis=1) for s in range(len(self.skills))], axis=0)

    @cached_property
    def _process(self) -> tuple[Array, Any]:
        """(lengths (D,), Cholesky factor of K + noise)."""
        y = self.objective - self.objective.mean()
        spread = float(y.std())

        def loss(theta: Array) -> float:
            factor = cho_factor(self._kernel(self.points, self.points, np.exp(theta[:-1])) + self._noise(theta[-1]))
            solved = cho_solve(factor, y / spread)
            return float(0.5 * y @ solved / spread + np.log(np.diag(factor[0])).sum())

        dimensions = len(self.names)
        start = np.array([*np.full(dimensions, np.log(0.6)), np.log(0.02)])
        bounds = [(np.log(0.1), np.log(10.0))] * dimensions + [(np.log(1e-4), np.log(0.5))]
        theta = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25}).x
        lengths = np.exp(theta[:-1])
        return lengths, cho_factor(self._kernel(self.points, self.points, lengths) + self._noise(theta[-1]))

    @staticmethod
    def _kernel(a: Array, b: Array, lengths: Array) -> Array:
        a, b = a / lengths, b / lengths
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        return np.exp(-0.5 * np.maximum(squares, 0.0))

    def _noise(self, log_variance: float) -> Array:
        return float(np.exp(log_variance)) * np.eye(len(self.points))

    def at(self, params: Mapping[str, float]) -> Scored:
        """The scores of one point."""
        point = np.array([[params[name] for name in self.names]])
        key = point.tobytes()
        if key not in self._kept:
            lengths, factor = self._process
            weights = cho_solve(factor, self._kernel(self.points, self._unit(point), lengths))[:, 0].astype(np.float32)
            right, likely, tokens = (
                values.mean(0) + weights @ (values - values.mean(0))
                for values in (self.right, self.likely, self.tokens)
            )
            self._kept[key] = Scored(
                (right >= 0.5).astype(float), np.clip(likely, 0.0, 1.0).astype(float), np.maximum(tokens, 1.0)
            )
        return self._kept[key]


def fidelity(path: Path, left_out: int = 80) -> dict[str, float]:
    """How well points between recorded merges are scored: every sixth or so is left out and predicted."""
    from scipy.stats import kendalltau

    whole = Landscape(path)
    out = np.linspace(1, len(whole.points) - 1, left_out).astype(int)
    rest = Landscape(path, np.setdiff1d(np.arange(len(whole.points)), out))
    predicted = []
    for index in out:
        params = dict(zip(whole.names, whole.low + whole.points[index] * (whole.high - whole.low), strict=True))
        predicted.append(rest.at(params))
    true = whole.right[out]
    objective = np.array(
        [np.mean([p.right[whole.skill == s].mean() for s in range(len(whole.skills))]) for p in predicted]
    )
    return {
        "left out": left_out,
        "items scored alike": float(np.mean([(p.right == t).mean() for p, t in zip(predicted, true, strict=True)])),
        "objective, root mean square error": float(np.sqrt(np.mean((objective - whole.objective[out]) ** 2))),
        "objective, Kendall's tau": float(kendalltau(objective, whole.objective[out]).statistic),
    }
