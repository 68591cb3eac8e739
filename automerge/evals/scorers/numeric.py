"""numeric: the answer's number equals the target's, compared as exact fractions.

Which number: see `final.final_number`; "2.5 million" equals 2,500,000, and 2.5, as the question may ask. With
`calculator: true` the first equation the answer writes is evaluated instead ("3 + 4 * 2 = 10" counts as 11), but where
the answer ends on what its last equation comes to, worked out in steps, that one ("8 - 5 = 3, 3 * 2 = 6"); an answer
without one falls back to the number rule.
"""

from fractions import Fraction
from typing import Annotated

from pydantic import Field

from automerge.config import Closed
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import TextScorer, register
from automerge.evals.scorers.calculator import Equation, first_equation, last_equation
from automerge.evals.scorers.final import final_number, is_marked
from automerge.evals.scorers.numbers import find_numbers, unscaled
from automerge.records import Score


class NumericParams(Closed):
    """`tolerance`: the largest absolute difference that still counts as equal."""

    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6
    calculator: bool = False


@register("numeric")
class Numeric(TextScorer):
    """1 where the numbers are equal, else 0; no number at all is a wrong answer, not an unscored one."""

    target_is_answer = True
    Params = NumericParams
    version = 4

    def check_target(self, target: str) -> str | None:
        if final_number(target) is None:
            return "the target has no number"
        if not is_marked(target) and len(find_numbers(target)) > 1:
            return f"the target has more than one number, and no mark such as ####: {target[:40]!r}"
        return None

    def score_text(self, text: str, target: str) -> Score:
        wanted = final_number(target)
        if wanted is None:
            return Score(None, "the target has no number")
        text = said(text)
        equation = _equation(text) if self.params.calculator else None
        if equation is not None and equation.value is None:
            return Score(0.0, f"{equation.text} divides by zero")
        given = final_number(text) if equation is None else equation.value
        if given is None:
            return Score(0.0, "no number in the answer")
        read = _show(given) if equation is None else f"{equation.text} = {_show(given)}"
        if self._equal(given, wanted) or (equation is None and self._equal(final_number(unscaled(text)), wanted)):
            return Score(1.0, read)
        return Score(0.0, f"{read}, expected {_show(wanted)}")

    def _equal(self, given: Fraction | None, wanted: Fraction) -> bool:
        return given is not None and abs(given - wanted) <= Fraction(self.params.tolerance)


def _equation(text: str) -> Equation | None:
    last = last_equation(text)
    return (
        last
        if last is not None and last.value is not None and last.value == final_number(text)
        else first_equation(text)
    )


def _show(value: Fraction) -> str:
    # Beyond float's range only integers are shown in full; Fraction keeps them exact either way.
    return str(value) if value.denominator == 1 or abs(value) > 1e15 else f"{float(value):.10g}"
