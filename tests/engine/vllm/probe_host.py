"""The process vLLM runs in, with two more ways in for tests: the weights that are served, and an ordinary start.

What a linear layer computes with may be packed, and its parameter gone or stale; so its weights are read by what it
makes of the identity, which shows each of them exactly (but for the sign of a zero).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors.torch import save_file

from automerge.engine import vllm_host, vllm_worker
from automerge.engine.vllm_host import Host, main
from automerge.engine.vllm_linears import packs_straight
from automerge.engine.vllm_worker import MergeWorker
from automerge.errors import MergeError


class ProbedWorker(MergeWorker):
    """MergeWorker, and what it serves."""

    device: Any
    logits: int

    def served_weights(self) -> dict[str, torch.Tensor]:
        """vLLM's own names, this rank's part."""
        from vllm.config import set_current_vllm_config
        from vllm.model_executor.layers.linear import LinearBase
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        model = self.model_runner.get_model()
        found = {name: value.detach().clone() for name, value in model.named_parameters() if value.numel()}
        with torch.inference_mode(), set_current_vllm_config(self.vllm_config):
            for name, layer in model.named_modules():
                if isinstance(layer, LinearBase):
                    width = getattr(layer, "input_size_per_partition", layer.input_size)
                elif isinstance(layer, ParallelLMHead):
                    width = layer.embedding_dim
                else:
                    continue
                identity = torch.eye(width, dtype=layer.params_dtype, device=self.device)
                found[f"{name}.weight"] = layer.quant_method.apply(layer, identity, None).t().contiguous()
        return found

    def linears_loaded_straight(self) -> dict[str, bool]:
        """Each linear layer: whether the next reload packs it straight from the merge."""
        from vllm.model_executor.layers.linear import LinearBase

        layers = self.model_runner.get_model().named_modules()
        return {name: packs_straight(layer) for name, layer in layers if isinstance(layer, LinearBase)}

    def count_logits(self) -> None:
        """From now on, the rows that logits are computed of."""
        model = self.model_runner.model
        whole, self.logits = model.compute_logits, 0

        def counted(hidden: torch.Tensor, *more: Any) -> Any:
            self.logits += len(hidden)
            return whole(hidden, *more)

        model.compute_logits = counted

    def counted_logits(self) -> int:
        """How many since `count_logits`, which ends."""
        del self.model_runner.model.compute_logits
        return self.logits

    def held_sources(self) -> int:
        """Bytes."""
        return vllm_worker._open[0].share.held

    def break_once(self, meant: bool) -> None:
        """The next merge raises, what is `meant` to be raised or not, when a few tensors are in their layers."""
        whole = vllm_worker._tensors

        def broken(merge: Any, told: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
            vllm_worker._tensors = whole
            for number, named in enumerate(whole(merge, told)):
                if number == 7:
                    raise (MergeError if meant else RuntimeError)("broken on purpose")
                yield named

        vllm_worker._tensors = broken


class ProbedHost(Host):
    """Host, and the two ways in."""

    extension = "tests.engine.vllm.probe_host.ProbedWorker"

    def served(self, path: str) -> None:
        """Writes what one worker serves as a safetensors file."""
        (weights,) = self._llm.collective_rpc("served_weights")
        save_file(weights, path)

    def linears_loaded_straight(self) -> dict[str, bool]:
        """See ProbedWorker."""
        (found,) = self._llm.collective_rpc("linears_loaded_straight")
        return dict(found)

    def counted_logits(self, rows: Sequence[Sequence[int]], tails: Sequence[int]) -> tuple[list[Any], int]:
        """`score`, and of how many tokens logits were computed."""
        self._llm.collective_rpc("count_logits")
        found = self.score(rows, tails)
        return found, self._llm.collective_rpc("counted_logits")[0]

    def start_plain(self, folder: str, arguments: dict[str, Any]) -> None:
        """vLLM on a checkpoint, as anybody would start it. transformers 5 has no config of DeepSeek's first generation,
        whose code vLLM has; it is Llama's, and what the file says beside."""
        from transformers import AutoConfig, LlamaConfig
        from vllm import LLM

        AutoConfig.register("deepseek", type("DeepseekConfig", (LlamaConfig,), {"model_type": "deepseek"}))

        self._llm = LLM(model=folder, disable_log_stats=True, **arguments)

    def break_once(self, meant: bool) -> None:
        """See ProbedWorker."""
        self._llm.collective_rpc("break_once", args=(meant,))

    def encoded(self, put: bool) -> int:
        """How many encoder outputs (of pictures, say) the scheduler takes for known, after one more is `put` there."""
        known = self._llm.llm_engine.engine_core.engine_core.scheduler.encoder_cache_manager.cached
        if put:
            known["a picture"] = set()
        return len(known)

    def held(self) -> list[int]:
        """Bytes of sources that each rank keeps."""
        found: list[int] = self._llm.collective_rpc("held_sources")
        return found

    def cached(self, row: Sequence[int]) -> int:
        """How many of a prompt's tokens are known from the prefix cache."""
        (answer,) = self._ask([row], [vllm_host._reading(0, cached=True)])
        return int(answer.num_cached_tokens or 0)


if __name__ == "__main__":
    main(ProbedHost())
