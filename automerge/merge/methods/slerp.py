"""SLERP: along the arc between two models. Source: K. Shoemake, "Animating rotation with quaternion curves" (1985).

    merged = sin((1 − t) Ω) ÷ sin Ω · a + sin(t Ω) ÷ sin Ω · b,   cos Ω = a · b ÷ (|a| |b|)
With one source a is the base and b the source; with two, a and b are the sources, by name, and the base takes no part.
Each tensor is one vector. Where |cos Ω| > 0.9995 the factors are 1 − t and t; a length of at most 1e-8 counts as 1.
The result is not brought back to a length. mergekit's is the same: its base model is a.
"""

import math

from automerge.merge.measure.geometry import cosine, gram
from automerge.merge.plan import Plan, Term
from automerge.merge.registry import Method, Parameter, register
from automerge.merge.steps import fp32
from automerge.merge.view import View

T = Parameter("t", "merge", 0.5, 0.0, 1.0, "0 is the first model, 1 the second", (0.0, 1.0))
PARALLEL = 0.9995  # beyond this cosine the straight line is taken
SHORTEST = 1e-8


def plan(view: View) -> Plan:
    """A weighted sum of two models' weights."""
    one, other = factors(view, fp32(view.values["t"]))
    last = Term(view.sources[-1].name, other)
    if len(view.sources) == 1:
        return Plan("weights", (last,) if other else (), base=one)
    first = Term(view.sources[0].name, one)
    return Plan("weights", tuple(term for term in (first, last) if term.factor), base=0.0)


def factors(view: View, t: float) -> tuple[float, float]:
    """What a and b are multiplied by."""
    a = view.base_values if len(view.sources) == 1 else view.sources[0].weights
    products = gram(view, (a, view.sources[-1].weights))
    lengths = [math.sqrt(products[i][i]) for i in (0, 1)]
    cos = cosine(products[0][1], *(length if length > SHORTEST else 1.0 for length in lengths))
    if abs(cos) > PARALLEL:
        return 1.0 - t, t
    angle = math.acos(cos)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


register(
    Method(
        name="slerp",
        about="along the arc from the base to a source, or between two sources",
        paper="https://en.wikipedia.org/wiki/Slerp",
        parameters=(T,),
        plan=plan,
        sources=(1, 2),
    )
)
