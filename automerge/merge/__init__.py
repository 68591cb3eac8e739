"""The merge: methods, masks, checksums, sources, and the stream that turns a recipe into merged tensors."""

from automerge.merge import methods  # registers every method
from automerge.merge.check import check_recipe
from automerge.merge.models import Models, models_of, open_models
from automerge.merge.registry import Method, Parameter, get_method, method_names
from automerge.merge.stream import Merge

__all__ = [
    "Merge",
    "Method",
    "Models",
    "Parameter",
    "check_recipe",
    "get_method",
    "method_names",
    "methods",
    "models_of",
    "open_models",
]
