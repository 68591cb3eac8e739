"""Has vLLM compute the log-probabilities of a prompt's last tokens only, where the request says how many matter.

vLLM takes the logits of every token of a prompt whose log-probabilities are asked: for a question of 700 tokens and an
answer of 60 more work than the model's own. This narrows what its runner is told to look at (vLLM 0.24 to 0.32, runner
V1); a runner made otherwise is left as it is, and computes them all.
"""

from typing import Any

FIRST = "automerge_first"  # in a request's extra_args: the first token whose successor's log-probability is wanted


class _Shifted:
    """An object with other values in `np`. The original's must stay: a copy of it to the GPU may still be under way."""

    def __init__(self, original: Any, np: Any) -> None:
        self._original, self.np = original, np

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def only_tails(runner: Any) -> None:
    """From now on."""
    whole = getattr(runner, "_get_prompt_logprobs_dict", None)
    if whole is None or not hasattr(runner, "num_prompt_logprobs"):
        return

    def narrowed(hidden_states: Any, scheduled: dict[str, int]) -> Any:
        skipped = {name: _skipped(runner.requests[name], scheduled.get(name)) for name in runner.num_prompt_logprobs}
        skipped = {name: count for name, count in skipped.items() if count}
        if not skipped:
            return whole(hidden_states, scheduled)
        starts = runner.query_start_loc
        runner.query_start_loc = _Shifted(starts, starts.np.copy())
        for name, count in skipped.items():
            runner.query_start_loc.np[runner.input_batch.req_id_to_index[name]] += count
            runner.requests[name].num_computed_tokens += count
        requests = [(runner.requests[name], count) for name, count in skipped.items()]
        try:
            return whole(hidden_states, {name: count - skipped.get(name, 0) for name, count in scheduled.items()})
        finally:
            runner.query_start_loc = starts
            for request, count in requests:
                request.num_computed_tokens -= count

    runner._get_prompt_logprobs_dict = narrowed


def _skipped(request: Any, scheduled: int | None) -> int:
    """Of the tokens that this step computed, how many come before the first one wanted."""
    first = (getattr(request.sampling_params, "extra_args", None) or {}).get(FIRST)
    if first is None or scheduled is None:
        return 0
    return int(min(scheduled, max(0, first - request.num_computed_tokens)))
