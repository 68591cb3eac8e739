"""YAML files → closed, typed configs. Every mistake is a ConfigError that names the file, the key and the near name.

It knows the shape of a search space file; what its method, skills and sources are is for later stages to find out.
"""

from automerge.config.closed import Closed, mistakes, validate
from automerge.config.engine import EngineConfig
from automerge.config.files import find_shipped, locate, read_yaml, shipped_names
from automerge.config.gates import GateRule, Margin
from automerge.config.mixture import MixtureConfig
from automerge.config.parameters import Bounds, Groups, ParameterSpace
from automerge.config.search import (
    AVERAGES,
    STUDY_NAME,
    SamplerConfig,
    SamplerName,
    SearchConfig,
    VerdictConfig,
    is_study_name,
    load_search,
    located,
)

__all__ = [
    "AVERAGES",
    "STUDY_NAME",
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
    "is_study_name",
    "load_search",
    "locate",
    "located",
    "mistakes",
    "read_yaml",
    "shipped_names",
    "validate",
]
