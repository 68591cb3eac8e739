"""The process that vLLM runs in: one engine, its calls answered one at a time. See child.py for its end.

vLLM's engine core runs in this very process (no second one to lose), its workers too unless there are several ranks.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from automerge.engine.child import serve
from automerge.engine.memory import CACHE_SPACE, LESS_MEMORY, own_memory
from automerge.engine.vllm_tails import FIRST
from automerge.engine.vllm_version import check_version
from automerge.errors import EngineError

CACHE_PART = 0.25  # of the host's free memory
HINT = f"{LESS_MEMORY} The log says more."
ARGUMENTS = "engine.arguments are handed to vLLM's LLM as they are. The log says more."


class Host:
    """vLLM's LLM, made by `start`. `extension` is what its workers are given beside their own methods."""

    extension = "automerge.engine.vllm_worker.MergeWorker"

    def __init__(self) -> None:
        self._llm: Any = None

    def hello(self) -> dict[str, str]:
        """Versions and device. Raises EngineError for a vLLM that cannot be used."""
        import torch
        import vllm
        from vllm.platforms import current_platform

        note = check_version(vllm.__version__)
        device = current_platform.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"vllm": vllm.__version__, "torch": torch.__version__, "device": device, "note": note}

    def start(self, folder: str, arguments: dict[str, Any], sources: dict[str, Any]) -> dict[str, Any]:
        """Serves the model whose config and tokenizer lie in `folder`. `sources`: see vllm_worker.Sources."""
        from vllm import LLM

        from automerge.engine.resident import choose_residency

        ranks = int(arguments.get("tensor_parallel_size", 1))
        chosen = choose_residency(sources["residency"], sources["bytes"], ranks)
        arguments = _with_room(arguments)
        try:
            self._llm = LLM(
                model=folder,
                load_format="automerge",
                model_loader_extra_config={**sources, "residency": chosen},
                worker_extension_cls=self.extension,
                disable_log_stats=True,
                **arguments,
            )
        except Exception as error:
            told = isinstance(error, TypeError | ValidationError)  # of what it was told, before it takes any memory
            hint = ARGUMENTS if told else HINT
            raise EngineError(f"vLLM cannot serve this model: {_reason(error)}", hint=hint) from error
        self._llm.collective_rpc("automerge_ready")
        return {"context": int(self._llm.llm_engine.model_config.max_model_len), "residency": chosen}

    def apply(self, recipe: str) -> list[dict[str, Any]]:
        """What each rank's worker tells of the merge. What was computed with the old weights is forgotten; the first
        rank's `resetting` is the seconds that took."""
        told: list[dict[str, Any]] = self._llm.collective_rpc("automerge_apply", args=(recipe,))
        start = time.perf_counter()
        if not self._llm.reset_prefix_cache(reset_connector=True):  # keys and values kept outside vLLM, too
            raise EngineError("vLLM would not reset its prefix cache: requests were still running")
        self._llm.llm_engine.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()
        told[0]["resetting"] = time.perf_counter() - start
        return told

    def generate(self, rows: Sequence[Sequence[int]], options: dict[str, Any], seed: int) -> list[list[int]]:
        """The tokens generated for each row, all rows submitted at once."""
        from vllm import SamplingParams

        sampled = options["temperature"] > 0
        parameters = [SamplingParams(**options, seed=_seed(seed, row) if sampled else None) for row in rows]
        return [list(answer.outputs[0].token_ids) for answer in self._ask(rows, parameters)]

    def score(self, rows: Sequence[Sequence[int]], tails: Sequence[int]) -> list[tuple[list[float], bool]]:
        """The log-probabilities of the last tails[i] tokens of rows[i], and whether each was the likeliest token."""
        firsts = [len(row) - tail - 1 for row, tail in zip(rows, tails, strict=True)]
        answers = self._ask(rows, [_reading(first, cached=True) for first in firsts])
        # what vLLM knew from its prefix cache has no log-probabilities; seldom, that is part of a tail
        again = [i for i, answer in enumerate(answers) if (answer.num_cached_tokens or 0) > firsts[i]]
        anew = self._ask([rows[i] for i in again], [_reading(firsts[i], cached=False) for i in again]) if again else []
        for i, answer in zip(again, anew, strict=True):
            answers[i] = answer
        return [_told(answer, row[first + 1 :]) for answer, row, first in zip(answers, rows, firsts, strict=True)]

    def _ask(self, rows: Sequence[Sequence[int]], parameters: Sequence[Any]) -> list[Any]:
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=list(row)) for row in rows]
        answers: list[Any] = self._llm.generate(prompts, list(parameters), use_tqdm=False)
        return answers


def _reading(first: int, *, cached: bool) -> Any:
    """What asks for the log-probabilities of the tokens after `first`."""
    from vllm import SamplingParams

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,
        skip_reading_prefix_cache=not cached,
        extra_args={FIRST: first},
        detokenize=False,  # of what was not computed there are no tokens either
    )


def _told(answer: Any, tail: Sequence[int]) -> tuple[list[float], bool]:
    """Each token's log-probability, and whether all were the likeliest."""
    places = answer.prompt_logprobs
    told = [place[token] for place, token in zip(places[len(places) - len(tail) :], tail, strict=True)]
    return [one.logprob for one in told], all(one.rank == 1 for one in told)


def _reason(error: Exception) -> str:
    """In a line. What pydantic says begins with a count of mistakes only."""
    if isinstance(error, ValidationError):
        lines = (": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors())
        return "; ".join(lines).replace("Value error, ", "")
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _with_room(arguments: dict[str, Any]) -> dict[str, Any]:
    """On a CPU, where nothing was said of it, a key-value cache of a part of the free memory. vLLM would take 0.92 of
    all memory, as of a GPU, and the kernel kills it when the cache has filled up."""
    import torch

    told = {"gpu_memory_utilization", "kv_cache_memory_bytes"} & arguments.keys()
    if torch.cuda.is_available() or told or CACHE_SPACE in os.environ:
        return arguments
    return {**arguments, "kv_cache_memory_bytes": int(CACHE_PART * own_memory())}


def _seed(seed: int, row: Sequence[int]) -> int:
    """An item's own: two items of a study differ, and an item has the same one wherever it stands."""
    text = f"{seed}\0{','.join(map(str, row))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def main(host: Host | None = None) -> None:
    """Serves calls for ever: the public methods of a host."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is on disk by now
    serving = host or Host()
    serve(
        {name: getattr(serving, name) for name in dir(serving) if callable(getattr(serving, name)) and name[0] != "_"}
    )


if __name__ == "__main__":
    main()
