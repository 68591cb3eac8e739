"""RAM+, tensor-local: RAM with more of what one source alone changed, the more it shares. Paper: arXiv:2601.13572.

    merged as in ram.py, but where one source alone changed an element it adds λ_i δ_i,
    λ_i = 1 + r · min(ρ_i, alpha),   ρ_i = elements of i that others changed too ÷ those of i alone
both counted in this tensor; no element of its own counts as `epsilon`. λ is taken in fp32. mergekit's is the same.
"""

import numpy as np

from automerge.merge.methods.ram import EPSILON, changes, shared_or_alone
from automerge.merge.plan import Elementwise
from automerge.merge.registry import Method, Parameter, register
from automerge.merge.view import View

R = Parameter("r", "merge", 0.1, 0.0, 1000.0, "how much sharing raises a source's own elements", (0.0, 0.5))
ALPHA = Parameter("alpha", "merge", 0.2, 0.0, 1000.0, "the most sharing that counts", (0.0, 1.0))
RUN = 1 << 18


def plan(view: View) -> Elementwise:
    """Element by element, after a count."""
    r, alpha, epsilon = (np.float32(view.values[name]) for name in ("r", "alpha", "epsilon"))
    factors = []
    for shared, alone in _counts(view):
        least = max(np.float32(alone), epsilon)
        ratio = np.float32(shared) / least if shared and least else alpha * np.float32(shared > 0)
        factors.append(float(np.float32(1.0) + r * min(ratio, alpha)))
    return shared_or_alone(view, factors)


def _counts(view: View) -> list[tuple[int, int]]:
    """For each source, how many elements it changed that others changed too, and how many alone."""
    counts = [(0, 0)] * len(view.sources)
    for start in range(0, view.n, RUN):
        _, changed, count = changes(view, start, min(start + RUN, view.n))
        for i, own in enumerate(changed):
            shared, alone = int((own & (count > 1.0)).sum()), int((own & (count == 1.0)).sum())
            counts[i] = (counts[i][0] + shared, counts[i][1] + alone)
    return counts


register(
    Method(
        name="ramplus_tl",
        about="as ram, with more of what one source alone changed",
        paper="arXiv:2601.13572",
        parameters=(R, ALPHA, EPSILON),
        plan=plan,
    )
)
