"""Mixtures of experts: a base's attention and embeddings, the feed-forward parts of several models, and a router.

config    mergekit-moe's YAML            experts   models, adapters, recipes
mixture   the sparse model's tensors     write     its folder, card and provenance
verify    whether a folder holds them
The kinds of sparse model are merge/sparse/family.py, router rows router/gates.py.
"""

from automerge.moe.mixture import Mixture, open_mixture
from automerge.moe.write import write_mixture

__all__ = ["Mixture", "open_mixture", "write_mixture"]
