"""lm_eval: a metric of lm-evaluation-harness, document by document. The task itself scores, see evals/lm_eval."""

from automerge.config import Closed
from automerge.evals.scorers.base import Answer, Scorer, register
from automerge.records import Score


class LmEvalParams(Closed):
    """`metric` and `filter` as the task names them; by default the first it lists."""

    metric: str | None = None
    filter: str | None = None


@register("lm_eval")
class LmEval(Scorer):
    """For skills whose data is {lm_eval: TASK}."""

    Params = LmEvalParams
    needs = "lm_eval"

    def check_target(self, target: str) -> str | None:
        return None

    def score(self, answer: Answer, target: str) -> Score:
        raise TypeError("lm-eval's tasks score whole documents")
