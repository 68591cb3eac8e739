"""constraints: the answer keeps instructions that a program can verify (IFEval; Zhou et al. 2023, arXiv:2311.07911).

The target is JSON, a list of {"type": NAME, …}; a skill writes it as `target: "{{ constraints | tojson }}"`. The kinds
and their parameters are those of `instructions.KINDS`.
"""

from automerge.config import Closed
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import TextScorer, register
from automerge.evals.scorers.instructions import parse_instructions
from automerge.records import Score


class ConstraintsParams(Closed):
    """`each`: the score is the share of instructions kept, else 1 only where all are (IFEval's strict prompt-level)."""

    each: bool = False


@register("constraints")
class Constraints(TextScorer):
    """Whether, or how far, an item's instructions are kept. An empty answer keeps none."""

    Params = ConstraintsParams
    version = 2

    def check_target(self, target: str) -> str | None:
        try:
            parse_instructions(target)
        except ValueError as error:
            return str(error)
        return None

    def score_text(self, text: str, target: str) -> Score:
        instructions = parse_instructions(target)
        text = said(text)
        broken = [name for name, kept in instructions if not (text.strip() and kept(text))]
        share = 1 - len(broken) / len(instructions)
        detail = f"not kept: {', '.join(broken)}" if broken else ""
        return Score(share if self.params.each else float(not broken), detail)
