"""Where a tensor sits in the model: its layer and kind of module, told from its name; and the group that rules it.

It knows names only: no shapes, no architectures.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from automerge.errors import ConfigError
from automerge.recipe import MODULES, Group, Recipe

ATTENTION = frozenset({"self_attn", "attn", "attention", "self_attention", "linear_attn"})
MLP = frozenset({"mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "experts"})
FIRST = frozenset({"embed_tokens", "wte", "wpe", "word_embeddings", "tok_embeddings", "embed_in", "embeddings"})

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Place:
    """A tensor's layer (None outside the layers), its module kind, and whether it comes before the layers."""

    layer: int | None
    module: str  # attention, mlp or rest
    first: bool = False


@cache
def place_of(tensor: str) -> Place:
    """E.g. `model.layers.3.self_attn.q_proj.weight` → layer 3, attention."""
    parts = set(tensor.split("."))
    found = _LAYER.search(tensor)
    if found is None:
        return Place(None, "rest", first=bool(parts & FIRST))
    if parts & ATTENTION:
        return Place(int(found[1]), "attention")
    return Place(int(found[1]), "mlp" if parts & MLP else "rest")


def split_layer(tensor: str) -> tuple[str, str]:
    """What stands before and after the layer's number, e.g. `model.layers` and `mlp.up_proj.weight`.

    Raises ValueError for a tensor outside the layers.
    """
    layer = place_of(tensor).layer
    parts = tensor.split(".")
    for place, part in enumerate(parts):
        before, after = ".".join(parts[:place]), ".".join(parts[place + 1 :])
        if layer is not None and part == str(layer) and place_of(f"{before}.{layer + 1}.{after}").layer == layer + 1:
            return before, after
    raise ValueError(f"{tensor} lies outside the layers")


def count_layers(tensors: Iterable[str]) -> int:
    """The number of layers; a model without any counts as one layer of rest."""
    layers = [place.layer for place in map(place_of, tensors) if place.layer is not None]
    return max(layers, default=0) + 1


def in_order(tensors: Iterable[str]) -> list[str]:
    """What comes before the layers, the layers by number, what comes after; by name inside each."""

    def key(tensor: str) -> tuple[int, int, str]:
        place = place_of(tensor)
        if place.layer is None:
            return (0 if place.first else 2, 0, tensor)
        return (1, place.layer, tensor)

    return sorted(tensors, key=key)


def group_of(recipe: Recipe, n_layers: int, tensor: str) -> Group:
    """The one group that covers the tensor. Embeddings count to the first layer's rest, the final norm and head
    to the last layer's. Raises ConfigError where no group or more than one does.
    """
    place = place_of(tensor)
    layer = place.layer if place.layer is not None else 0 if place.first else n_layers - 1
    found = [
        group
        for group in recipe.groups
        if group.layers[0] <= layer < group.layers[1]
        and group.modules in ("all", place.module)
        and (not group.tensors or tensor in group.tensors)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        hint = f"Groups must cover layers 0 to {n_layers - 1} and the modules {', '.join(MODULES)} (or all)."
        raise ConfigError(f"no group covers layer {layer}, {place.module}", where=tensor, hint=hint)
    names = ", ".join(group.name for group in found)
    raise ConfigError(f"covered by more than one group: {names}", where=tensor, hint="Let each tensor be in one group.")
