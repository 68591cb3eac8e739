"""What vLLM's own reload of weights leaves as it was on a CPU, seen in 0.32, and mended here. It knows no merge.

On a CPU vLLM packs weights for its kernels. A reload packs anew what it loads, with three exceptions:

- A head tied to the embedding loads nothing of its own, and goes on computing with the old packed copy.
- The embedding under such a head is packed as if it were one itself, a copy of the largest tensor that nobody reads.
- A mixture's experts are taken for an update of kernels that exist, whose weights are then left unpacked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding


@contextmanager
def whole_reload(model: nn.Module) -> Iterator[None]:
    """Around a reload: all that the model computes with is new afterwards."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    for layer in model.modules():
        method: Any = getattr(layer, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None  # as at the first load: made anew, its weights packed
    tied = _tied(model)
    for _, embedding in tied:
        embedding.quant_method.process_weights_after_loading = lambda layer: None  # of this instance alone
    try:
        yield
    finally:
        for _, embedding in tied:
            del embedding.quant_method.process_weights_after_loading
    for head, _ in tied:
        head.quant_method.process_weights_after_loading(head)


def _tied(model: nn.Module) -> list[tuple[Any, Any]]:
    """Heads, and the embedding whose weights each computes with."""
    embeddings: list[Any] = [layer for layer in model.modules() if isinstance(layer, VocabParallelEmbedding)]
    heads = [layer for layer in embeddings if isinstance(layer, ParallelLMHead)]
    return [(h, e) for h in heads for e in embeddings if e is not h and e.weight is h.weight]
