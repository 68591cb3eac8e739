"""Mixtures of experts: a base's attention and embeddings, the feed-forward parts of several models, and a router.

config    mergekit-moe's YAML            family    the kinds of sparse model that can be written
experts   models, adapters, recipes      gates     router rows, from prompts
mixture   the sparse model's tensors     write     its folder, card and provenance
"""

from automerge.moe.mixture import Mixture, open_mixture
from automerge.moe.write import write_mixture

__all__ = ["Mixture", "open_mixture", "write_mixture"]
