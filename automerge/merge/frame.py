"""What a merge gives and where each model's part of it lies: names, shapes and config of the result.

A plain merge keeps the base's tensors, one to one. A recipe with slices stacks layers (stack.py); one whose models'
vocabularies differ re-indexes the embeddings (vocabulary/); one with experts lays out a sparse model (sparse/). The
merge itself sees none of this.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from automerge.merge.sources.source import Source


@dataclass(frozen=True)
class Taken:
    """A tensor that is one model's as it is, whatever the method: what lies under it is `tensor` of `model`, and a
    source that takes part in it adds its whole delta. "" stands for none: router rows, which the temperature divides.
    """

    model: str
    tensor: str


@dataclass(frozen=True)
class Frame:
    """`base` and `sources` offer their values under the result's tensor names. `names` is the order of the merge.

    `takes_part` names, for a tensor, the sources that have a part in it, where not all do. `as_is` are the tensors
    that no method merges. `kept` holds what was measured of the tensors, from one merge to the next.
    """

    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    n_layers: int
    config: Mapping[str, Any]  # config.json of the result
    base: Source
    sources: Mapping[str, Source]  # sorted by name
    takes_part: Mapping[str, frozenset[str]] = field(default_factory=dict)
    as_is: Mapping[str, Taken] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The number of elements of each tensor."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    def sources_of(self, tensor: str) -> Mapping[str, Source]:
        """The sources that have a part in the tensor, sorted by name."""
        some = self.takes_part.get(tensor)
        if some is None:
            return self.sources
        return {name: source for name, source in self.sources.items() if name in some}
