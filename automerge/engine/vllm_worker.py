"""Runs inside vLLM's workers, one a rank: holds the sources, merges there, and feeds vLLM's own weight reload.

vLLM mixes MergeWorker into its worker class (`worker_extension_cls`), which also registers the loader that the model's
first weights, the base's, come through. Nothing goes through files: merged tensors go from the merge's batch straight
into the layer they belong to. The sources are taken in while the model loads, so vLLM sizes its KV cache beside them.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from vllm.config import set_current_vllm_config
from vllm.distributed import get_tp_group
from vllm.model_executor.model_loader import BaseModelLoader, register_model_loader

from automerge.engine.resident import ResidentShare
from automerge.engine.vllm_draws import keep_draws
from automerge.engine.vllm_reload import whole_reload
from automerge.engine.vllm_tails import only_tails
from automerge.merge.check import OUTPUT_DTYPES
from automerge.merge.layout import place_of
from automerge.merge.loans import POOL
from automerge.merge.models import Models, open_models
from automerge.merge.stream import BATCH_BYTES, Merge
from automerge.recipe import Recipe, parse_recipe


@dataclass
class _Open:
    """This worker's models and its share of a merge."""

    models: Models
    share: ResidentShare


_open: list[_Open] = []  # one, once the loader ran


@register_model_loader("automerge")
class Loader(BaseModelLoader):  # type: ignore[misc]
    """Serves the base, in the shape of `recipe`'s merge. `model_loader_extra_config`: base, base_name, sources, recipe,
    residency."""

    def download_model(self, model_config: Any) -> None:
        """Everything is on disk."""

    def load_weights(self, model: Any, model_config: Any) -> None:
        """Opens and takes in the sources, and loads the base's weights."""
        told = self.load_config.model_loader_extra_config
        models = open_models(told["base"], told["sources"], base_name=told["base_name"])
        device = next(model.parameters()).device
        share = ResidentShare(told["residency"], device, get_tp_group())
        merge = Merge(parse_recipe(told["recipe"]), models, share=share)
        _open[:] = [_Open(models, share)]
        model.load_weights((name, merge.frame.base.stored(name)) for name in merge.names)
        merge.hold()
        if merge.recipe.mixture is not None:  # other candidates have other experts
            Merge(replace(merge.recipe, mixture=None), models, share=share).hold()


class MergeWorker:
    """What automerge adds to a vLLM worker, where it finds `reload_weights`."""

    reload_weights: Any
    vllm_config: Any
    model_runner: Any

    def automerge_ready(self) -> None:
        """Once, when the engine has started."""
        only_tails(self.model_runner)
        keep_draws(self.model_runner)

    def automerge_apply(self, recipe_json: str) -> dict[str, Any]:
        """Merges into the served weights, and tells: `sums`, of each tensor name, dtype, shape, its A and B;
        `not_finite`, names; `bytes` of the merge; `held`, of sources kept; `idle`, of memory kept for the next merge;
        `extra`, of GPU memory at most beyond what was taken before; `seconds` in all, `merging` of them."""
        start = time.perf_counter()
        recipe, opened = parse_recipe(recipe_json), _open[0]
        merge = Merge(recipe, opened.models, share=opened.share, batch_bytes=_batch_bytes(recipe, opened))
        told: dict[str, Any] = {"bytes": merge.bytes, "not_finite": [], "merging": 0.0}
        before = _taken(opened.share.device)
        # vLLM 0.24 leaves setting the config to the caller
        with set_current_vllm_config(self.vllm_config), whole_reload(self.model_runner.get_model()):
            self.reload_weights(weights_iterator=_tensors(merge, told), is_checkpoint_format=True)
        told["sums"] = [(t.name, str(t.dtype), list(t.shape), t.a, t.b) for t in merge.totals]
        told["held"] = opened.share.held
        told["idle"] = POOL.idle
        told["extra"] = _taken(opened.share.device, most=True) - before
        told["seconds"] = time.perf_counter() - start
        return told


def _taken(device: torch.device, most: bool = False) -> int:
    """Bytes of a GPU that torch has handed out; with `most`, at most since the call before without it."""
    if device.type != "cuda":
        return 0
    if most:
        return torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _batch_bytes(recipe: Recipe, opened: _Open) -> int:
    """On a GPU half a layer's worth, for as much as a layer is what vLLM makes one anew in, and a batch is freed after
    the next is made; more than elsewhere, since each batch is waited for."""
    if opened.share.device.type != "cuda":
        return BATCH_BYTES
    sizes: Counter[int] = Counter()
    for name, shape in opened.models.frame(recipe).shapes.items():
        layer = place_of(name).layer
        if layer is not None:
            sizes[layer] += math.prod(shape) * OUTPUT_DTYPES[recipe.dtype].itemsize
    return max(sizes.values(), default=BATCH_BYTES) // 2


def _tensors(merge: Merge, told: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The merge, timed. Values that are not finite are told, not raised: vLLM's reload must come to its end, or the
    next one finds layers half made."""
    start = time.perf_counter()
    for name, tensor, finite in merge.judged_tensors():
        if not finite:
            told["not_finite"].append(name)
        told["merging"] += time.perf_counter() - start
        yield name, tensor
        start = time.perf_counter()
    told["merging"] += time.perf_counter() - start
