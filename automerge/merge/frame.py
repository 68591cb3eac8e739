"""What a merge gives and where each model's part of it lies: names, shapes and config of the result.

A plain merge keeps the base's tensors, one to one. A recipe with slices stacks layers (stack.py); one whose models'
vocabularies differ re-indexes the embeddings (vocabulary/). The merge itself sees none of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automerge.merge.sources.source import Source


@dataclass(frozen=True)
class Frame:
    """`base` and `sources` offer their values under the result's tensor names. `names` is the order of the merge.

    `takes_part` names, for a tensor, the sources that have a part in it, where not all do. `kept` holds what was
    measured of the tensors, from one merge to the next.
    """

    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    n_layers: int
    config: Mapping[str, Any]  # config.json of the result
    base: Source
    sources: Mapping[str, Source]  # sorted by name
    takes_part: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def sources_of(self, tensor: str) -> dict[str, Source]:
        """The sources that have a part in the tensor, sorted by name."""
        some = self.takes_part.get(tensor)
        return {name: source for name, source in self.sources.items() if some is None or name in some}
