"""The merge methods, one file each. Importing this package registers them all and freezes the registry."""

from automerge.merge.methods import (
    arcee_fusion,
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    dare_weights,
    della,
    della_linear,
    karcher,
    linear,
    magnitude_linear,
    model_stock,
    multislerp,
    nearswap,
    nuslerp,
    passthrough,
    ram,
    ramplus_tl,
    sce,
    slerp,
    task_arithmetic,
    ties,
)
from automerge.merge.registry import freeze

freeze()

__all__ = [
    "arcee_fusion",
    "breadcrumbs",
    "breadcrumbs_ties",
    "dare_linear",
    "dare_ties",
    "dare_weights",
    "della",
    "della_linear",
    "karcher",
    "linear",
    "magnitude_linear",
    "model_stock",
    "multislerp",
    "nearswap",
    "nuslerp",
    "passthrough",
    "ram",
    "ramplus_tl",
    "sce",
    "slerp",
    "task_arithmetic",
    "ties",
]
