"""likelihood: how probable the model finds the gold answer. No text is generated, so it costs one prefill.

    score = exp( (1/n) Σ log p(token_i | prompt, tokens before i) ),   n tokens of the target

the geometric mean of the token probabilities: in [0, 1], smooth in the weights, comparable between lengths.
"""

import math

from automerge.evals.scorers.base import Answer, Scorer, register
from automerge.records import LogLikelihood, Score


@register("likelihood")
class Likelihood(Scorer):
    """The geometric-mean probability per token of the target. Unscored where the engine's numbers are not usable."""

    needs = "likelihood"

    def score(self, answer: Answer, target: str) -> Score:
        if not isinstance(answer, LogLikelihood):
            raise TypeError(f"likelihood reads log-probabilities, got {type(answer).__name__}")
        logprobs = answer.token_logprobs
        if not logprobs:
            return Score(None, "the target has no tokens")
        mean = math.fsum(logprobs) / len(logprobs)
        if math.isnan(mean) or mean == math.inf:
            return Score(None, "a log-probability is not a number")
        # Rounding in the engine may leave a hair above 0.
        return Score(math.exp(min(mean, 0.0)), f"mean log-probability {mean:.4f} over {len(logprobs)} tokens")
