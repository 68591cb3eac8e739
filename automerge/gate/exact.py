"""Exact intervals for the mean of 0/1 scores and of their paired differences: no resampling, no normal law.

One model: Clopper and Pearson (1934). Two models on the same n items, b of which the first alone has right and c the
second alone: the trinomial (b, c, n − b − c) has the difference δ = p_b − p_c and, as a nuisance, the discordance
ψ = p_b + p_c. A bound is the δ at which the exact unconditional test still rejects: tables are ordered by their
studentized difference, and the p-value is the largest over ψ in a confidence interval of its own, plus that interval's
error (Berger and Boos 1994).
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MOST_ITEMS = 500  # beyond, the bootstrap is as good, and tables are too many
_NUISANCE = 0.02  # of the allowed error, spent on the interval of ψ
_GRID = 16  # values of ψ
_STEPS = 12  # of bisection: a bound to 1e-3 standard errors
_NEAR = 4.0  # standard errors: where a bound is looked for at first
_TAIL = 8.0  # standard deviations beyond which no table is looked at


def takes(differences: Numbers) -> bool:
    """Whether these are 0/1 scores (values 0 and 1), or differences of such, and few enough."""
    return differences.size <= MOST_ITEMS and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())


def interval(differences: Numbers, confidence: float) -> tuple[float, float]:
    """(low, high), each side with half of the error; `differences` (n,) of −1, 0 and 1, n ≥ 1."""
    n, ahead, behind = differences.size, int((differences > 0).sum()), int((differences < 0).sum())
    error = (1.0 - confidence) / 2
    return _low(ahead, behind, n, error), -_low(behind, ahead, n, error)


def proportion(right: int, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval for a share, of which `right` of n were seen."""
    from scipy.stats import binomtest  # slow to import

    found = binomtest(right, n).proportion_ci(confidence, "exact")
    return float(found.low), float(found.high)


@functools.lru_cache(4096)  # simulations ask for the same few again and again
def _low(ahead: int, behind: int, n: int, error: float) -> float:
    """The lower bound of δ with that one-sided error."""
    nuisance = error * _NUISANCE
    span = proportion(ahead + behind, n, 1.0 - nuisance)
    kept = (ahead - behind) / n
    near = kept - _NEAR * math.sqrt(((ahead + behind + 1) / n - kept**2) / n)
    rejected = max(near, -1.0)
    if _p_value(ahead, behind, n, rejected, span) + nuisance > error:
        rejected = -1.0
    for _ in range(_STEPS):
        middle = (rejected + kept) / 2
        if _p_value(ahead, behind, n, middle, span) + nuisance <= error:
            rejected = middle
        else:
            kept = middle
    return rejected


def _p_value(ahead: int, behind: int, n: int, delta: float, span: tuple[float, float]) -> float:
    """The largest probability, over ψ in `span`, of a table at least as far above δ as the one that was seen."""
    lowest, highest = max(span[0], abs(delta)), max(span[1], abs(delta))
    discordance = np.linspace(lowest, min(highest, 1.0), _GRID)
    p, q = (discordance + delta) / 2, (discordance - delta) / 2
    b, c = (np.arange(_most(share.max(), n) + 1.0) for share in (p, q))
    b, c = (axis.ravel() for axis in np.meshgrid(b, c, indexing="ij"))
    far = (b + c <= n) & (_studentized(b, c, n, delta) >= _studentized(float(ahead), float(behind), n, delta) - 1e-9)
    b, c = b[far], c[far]
    return float(_chances(b, c, n, p, q).sum(axis=1).max())


def _most(share: float, n: int) -> int:
    """No count of a share so large is likely to be above it."""
    return min(n, int(n * share + _TAIL * np.sqrt(n * share * (1 - share)) + _TAIL**2))


def _studentized(b: "Numbers | float", c: "Numbers | float", n: int, delta: float) -> "Numbers | float":
    """Of a table, or of many; a pseudo-item keeps it finite where no item tells the models apart."""
    mean = (b - c) / n
    return (mean - delta) / np.sqrt((b + c + 1) / n - mean**2)


def _chances(b: Numbers, c: Numbers, n: int, p: Numbers, q: Numbers) -> Numbers:
    """(values of ψ, tables): the trinomial probabilities."""
    from scipy.special import gammaln, xlogy  # slow to import

    rest = n - b - c
    ways = gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(rest + 1)
    p, q = p[:, None], q[:, None]
    found: Numbers = np.exp(ways + xlogy(b, p) + xlogy(c, q) + xlogy(rest, np.clip(1 - p - q, 0, 1)))
    return found
