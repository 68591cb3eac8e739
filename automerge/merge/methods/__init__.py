"""The merge methods, one file each. Importing this package registers them all and freezes the registry."""

from automerge.merge.methods import dare_linear, dare_ties, linear, task_arithmetic, ties
from automerge.merge.registry import freeze

freeze()

__all__ = ["dare_linear", "dare_ties", "linear", "task_arithmetic", "ties"]
