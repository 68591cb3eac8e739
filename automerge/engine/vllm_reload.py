"""vLLM's own reload of weights on a CPU, seen in 0.32: what it leaves as it was, mended, and what it need not do, left
out. It knows no merge.

On a CPU vLLM packs weights for its kernels. A reload makes each layer anew, packs it, and copies it over the old one:

- A head tied to the embedding loads nothing of its own, and would go on computing with the old packed copy.
- A mixture's experts are taken for an update of kernels that exist, whose weights would be left unpacked.
- Layers that are never packed (norms), and embeddings, which keep their weights beside a packed copy, need no second
  set of weights: what is loaded goes where it is served from. So the largest tensor of all is never there twice.
- An embedding beside a head of its own is packed as if it were one itself, a copy that nobody reads.
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

from automerge.engine.vllm_linears import load_straight, packs_straight


@contextmanager
def whole_reload(model: nn.Module) -> Iterator[None]:
    """Around a reload: all that the model computes with is new afterwards."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    embeddings: list[Any] = []
    waiting: list[dict[Any, Any]] = []
    layers = list(model.modules())
    for layer in layers:
        if packs_straight(layer):
            waiting.append(load_straight(layer))
            continue
        method: Any = getattr(layer, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None  # as at the first load: made anew, its weights packed
        if isinstance(layer, VocabParallelEmbedding) and type(method) is UnquantizedEmbeddingMethod:
            embeddings.append(layer)
        elif method is not None or hasattr(layer, "process_weights_after_loading"):
            continue
        get_layerwise_info(layer).load_numel_total = 0  # vLLM takes it as prepared, and leaves its weights there
    methods = {embedding.quant_method for embedding in embeddings}
    for method in methods:
        method.process_weights_after_loading = lambda layer: None  # of this instance alone
    try:
        yield
        if any(waiting):
            raise RuntimeError("vLLM loaded a part of a linear layer's weight, and no more: it cannot serve this merge")
    finally:
        for method in methods:
            del method.process_weights_after_loading
    headed = any(isinstance(layer, ParallelLMHead) for layer in layers)
    for embedding in embeddings:
        embedding.cpu_linear = nn.functional.linear  # the old packed copy is let go of before there is a new one
        if isinstance(embedding, ParallelLMHead) or not headed:  # else no copy that goes stale, and nobody multiplies
            embedding.quant_method.process_weights_after_loading(embedding)
