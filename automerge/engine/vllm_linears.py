"""Linear layers that vLLM packs for its CPU kernels, reloaded from merged tensors with no weights of their own between.

vLLM's reload makes such a layer's weights anew, loads them twice (once into nothing, to count), packs them, drops them
and puts an empty tensor back: on a CPU a third of a reload. The layer needs its shards in a row, to pack.
"""

from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers import linear
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.meta import to_meta_tensor
from vllm.model_executor.model_loader.reload.utils import get_layer_params_buffers

KINDS = (
    linear.ReplicatedLinear,
    linear.ColumnParallelLinear,
    linear.RowParallelLinear,
    linear.MergedColumnParallelLinear,
    linear.QKVParallelLinear,
)
ATTENTION = {"q": 0, "k": 1, "v": 2}  # what a layer of all three calls its shards; others are numbered


def packs_straight(layer: Any) -> bool:
    """Whether `load_straight` knows the layer: none of other kinds, quantized, sharded among ranks, whose weights are
    not packed away, or with a loader of the model's own, which may do more than to place what it is given."""
    if type(layer) not in KINDS or type(layer.quant_method) is not linear.UnquantizedLinearMethod:
        return False
    if layer.tp_size != 1 or layer.weight.numel():
        return False
    loader = get_layerwise_info(layer).restore_metadata[0]["weight"].weight_loader
    return getattr(loader, "__name__", "") in ("weight_loader", "weight_loader_v2")


def load_straight(layer: Any) -> dict[Any, Tensor]:
    """Has the next reload pack the layer when all of its weight is there. Returns where shards wait for the others.
    A layer that is given nothing stays as it is, and vLLM says so, as in its own reload."""
    info = get_layerwise_info(layer)
    described: Any = info.restore_metadata[0]["weight"]  # as it is before it is packed
    shards: dict[Any, Tensor] = {}

    def load(param: Tensor, weight: Tensor, shard: Any = None) -> None:
        if not info.can_load():
            return  # more than the layer has, which vLLM passes over too
        shards[shard] = weight
        if sum(part.numel() for part in shards.values()) < described.numel():
            return
        (first, *others) = (shards[key] for key in sorted(shards, key=_place))
        shards.clear()
        whole = torch.cat([first, *others]) if others else first.contiguous()
        layer.weight = nn.Parameter(whole.to(described.dtype).view(described.shape), requires_grad=False)
        layer.quant_method.process_weights_after_loading(layer)  # a bias is there: its name comes before the weight's
        info.reset()  # vLLM has nothing more to do with it

    info.kernel_tensors = get_layer_params_buffers(layer)
    info.load_numel_total = described.numel()  # vLLM takes it as prepared, and calls the loader that it has
    layer.weight = to_meta_tensor(described)  # models look at it to know how to load
    layer.weight.weight_loader = load
    return shards


def _place(shard: Any) -> int:
    """Of several in a row, which are named by their numbers, the first counts; a whole weight has none."""
    first: Any = shard[0] if isinstance(shard, tuple) else shard
    return int(ATTENTION.get(first, first or 0))
