"""YAML files → closed, typed configs. Every mistake is a ConfigError that names the file, the key and the near name.

It knows the shape of a search space file; what its method, skills and sources are is for later stages to find out.
"""

from automerge.config.closed import Closed, validate
from automerge.config.engine import EngineConfig
from automerge.config.files import find_shipped, locate, read_yaml
from automerge.config.gates import GateRule, Margin
from automerge.config.mixture import MixtureConfig
from automerge.config.parameters import Bounds, Groups, ParameterSpace
from automerge.config.search import (
    AVERAGES,
    SamplerConfig,
    SamplerName,
    SearchConfig,
    VerdictConfig,
    load_search,
    located,
)

__all__ = [
    "AVERAGES",
    "Bounds",
    "Closed",
    "EngineConfig",
    "GateRule",
    "Groups",
    "Margin",
    "MixtureConfig",
    "ParameterSpace",
    "SamplerConfig",
    "SamplerName",
    "SearchConfig",
    "VerdictConfig",
    "find_shipped",
    "load_search",
    "locate",
    "located",
    "read_yaml",
    "validate",
]
