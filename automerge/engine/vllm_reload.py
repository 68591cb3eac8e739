"""vLLM's own reload of weights on a CPU, seen in 0.32: what it leaves as it was, mended, and what it need not do, left
out. It knows no merge.

On a CPU vLLM packs weights for its kernels. A reload makes each layer anew, packs it, and copies it over the old one:

- A head tied to the embedding loads nothing of its own, and would go on computing with the old packed copy.
- A mixture's experts are taken for an update of kernels that exist, whose weights would be left unpacked.
- Layers that are never packed (norms), and embeddings, which keep their weights beside a packed copy, need no second
  set of weights: what is loaded goes where it is served from. So the largest tensor of all is never there twice.
- The embedding under a tied head would be packed as if it were one itself, a copy that nobody reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info


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
        if _in_place(layer, method):
            get_layerwise_info(layer).load_numel_total = 0  # so vLLM takes it as prepared, and leaves its weights there
    beneath = _under_heads(model)
    for embedding in beneath:
        embedding.quant_method.process_weights_after_loading = lambda layer: None  # of this instance alone
    try:
        yield
    finally:
        for embedding in beneath:
            del embedding.quant_method.process_weights_after_loading


def _in_place(layer: nn.Module, method: Any) -> bool:
    """Whether nothing is made of its weights, or only from them; vLLM's reload then ends with that, tied heads
    included."""
    if isinstance(layer, VocabParallelEmbedding):
        return type(method) is UnquantizedEmbeddingMethod
    return method is None and not hasattr(layer, "process_weights_after_loading")


def _under_heads(model: nn.Module) -> list[Any]:
    """Embeddings whose weights a head of its own computes with."""
    embeddings: list[Any] = [layer for layer in model.modules() if isinstance(layer, VocabParallelEmbedding)]
    heads = [layer for layer in embeddings if isinstance(layer, ParallelLMHead)]
    return [e for e in embeddings if any(e is not head and e.weight is head.weight for head in heads)]
