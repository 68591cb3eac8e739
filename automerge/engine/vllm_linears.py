"""Linear layers that vLLM packs for its CPU kernels, reloaded from merged tensors with no weights of their own between.

vLLM's reload makes such a layer's weights anew, loads them twice (once into nothing, to count), packs them, drops them
and puts an empty tensor back: on a CPU a third of a reload. The layer needs its shards in a row, to pack.
"""

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = {"q": 0, "k": 1, "v": 2}  # what a layer of all three calls its shards; others are numbered


def load_straight(layer: Any) -> bool:
    """Has the next reload pack the layer as soon as all of its weight is there. False, and nothing done, for what this
    does not know: layers of other kinds, quantized, sharded among ranks, or whose weights are not packed away."""
    from vllm.model_executor.layers import linear
    from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

    kinds = (
        linear.ReplicatedLinear,
        linear.ColumnParallelLinear,
        linear.RowParallelLinear,
        linear.MergedColumnParallelLinear,
        linear.QKVParallelLinear,
    )
    if type(layer) not in kinds or type(layer.quant_method) is not linear.UnquantizedLinearMethod:
        return False
    if layer.tp_size != 1 or layer.weight.numel():
        return False
    info = get_layerwise_info(layer)
    loaded: Any = info.restore_metadata[0]["weight"]  # as it is before it is packed
    if getattr(loaded.weight_loader, "__name__", "") not in ("weight_loader", "weight_loader_v2"):
        return False  # the model's own, which may do more than to place what it is given
    shards: dict[Any, Tensor] = {}

    def load(param: Tensor, weight: Tensor, shard: Any = None) -> None:
        shards[shard] = weight
        if sum(part.numel() for part in shards.values()) < loaded.numel():
            return
        (first, *others) = (shards[key] for key in sorted(shards, key=_place))
        shards.clear()
        whole = torch.cat([first, *others]) if others else first
        layer.weight = nn.Parameter(whole.to(loaded.dtype).view(loaded.shape), requires_grad=False)
        layer.quant_method.process_weights_after_loading(layer)
        info.reset()  # vLLM has nothing more to do with it

    info.load_numel_total = 0  # vLLM takes it as prepared, and calls the loader that it has
    layer.weight.weight_loader = load
    return True


def _place(shard: Any) -> int:
    """Of several in a row, which are named by their numbers, the first counts; a whole weight has none."""
    first: Any = shard[0] if isinstance(shard, tuple) else shard
    return int(ATTENTION.get(first, first or 0))
