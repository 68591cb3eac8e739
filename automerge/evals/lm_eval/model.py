"""lm-eval's interface for models over an engine of ours: same tokens, cuts and stop strings as its own `hf` model.

Every question goes through `ask`, so that answers are kept and found again as those of any skill.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM

from automerge.engine.base import Engine
from automerge.errors import SkillError
from automerge.records import Completion, LogLikelihood, Prompt, Sampling

MOST_TOKENS = 256  # of an answer, where a task does not say: as `hf` has it


@dataclass(frozen=True)
class Ask:
    """One question to the engine: the continuation's tokens, or how to generate."""

    prompt: Prompt
    then: tuple[int, ...] | Sampling


Asker = Callable[[Sequence[Ask]], Sequence[Completion | LogLikelihood]]


class EngineModel(TemplateLM):  # type: ignore[misc]
    """See the module."""

    def __init__(self, engine: Engine, ask: Asker) -> None:
        super().__init__()
        self._engine = engine
        self._ask = ask

    @property
    def eot_token_id(self) -> int:
        return self._engine.prefix_token

    @property
    def max_length(self) -> int:
        # One less than the model's, for the last token of a likelihood has a place of its own in our engines.
        return self._engine.context - 1

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        tokens = list(self._engine.tokens(string))
        if add_special_tokens is False or (add_special_tokens is None and tokens[:1] == [self._engine.prefix_token]):
            return tokens  # a chat template's text has its own
        return list(self._engine.encode(string).token_ids)

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        asks = []
        for (context, _), context_tokens, tail in requests:
            kept = [*context_tokens, *tail][-(self.max_length + 1) :]
            head = kept[: len(kept) - len(tail)] or [self._engine.prefix_token]
            asks.append(Ask(Prompt(context, tuple(head)), tuple(kept[len(kept) - len(tail) :])))
        found = self._ask(asks)
        return [(sum(one.token_logprobs), bool(one.greedy)) for one in found if isinstance(one, LogLikelihood)]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        totals = []
        for (text,) in [request.args for request in requests]:
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self._engine.prefix_token,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pairs = [utils.make_disjoint_window(window) for window in windows]
            asks = [Ask(Prompt(text, tuple(head)), tuple(tail)) for head, tail in pairs]
            totals.append(sum(sum(one.token_logprobs) for one in self._ask(asks) if isinstance(one, LogLikelihood)))
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        asks = []
        for number, (context, options) in enumerate(request.args for request in requests):
            sampling = _sampling(options, number)
            if sampling.max_tokens >= self.max_length:
                message = f"max_gen_toks {sampling.max_tokens} leaves no room for a prompt in {self.max_length} tokens"
                raise SkillError(message, hint="Lower it in the task's generation_kwargs, or take a longer context.")
            tokens = self.tok_encode(context)[-max(1, self.max_length - sampling.max_tokens) :]
            asks.append(Ask(Prompt(context, tuple(tokens)), sampling))
        return [one.text for one in self._ask(asks) if isinstance(one, Completion)]


def _sampling(options: dict[str, Any], number: int) -> Sampling:
    """What a task's generation_kwargs say. Sampled answers differ by their place, so that repeats do."""
    until = options.get("until") or []
    stop = (until,) if isinstance(until, str) else tuple(until)
    temperature = float(options.get("temperature") or 0.0) if options.get("do_sample", True) else 0.0
    return Sampling(
        max_tokens=int(options.get("max_gen_toks") or options.get("max_new_tokens") or MOST_TOKENS),
        temperature=temperature,
        top_p=float(options.get("top_p") or 1.0),
        stop=tuple(word for word in stop if word),
        seed=number if temperature else 0,
    )
