"""Short ways to a search space."""

from typing import Any

from automerge.config import SearchConfig, validate
from automerge.merge import Models
from automerge.space.space import SearchSpace


def space_of(models: Models, method: str | list[str] = "dare_linear", **changes: Any) -> SearchSpace:
    """A space over these models; `parameters` is {"weight": [0, 1]} unless changed."""
    data = {
        "name": "test",
        "base": models.base_ref.path,
        "sources": {ref.name: ref.path for ref in models.source_refs},
        "method": method,
        "parameters": {"weight": [0, 1]},
        "skills": {"sums": "sums"},
        "objective": ["sums"],
    }
    return SearchSpace(validate(SearchConfig, data | changes, "test"), models)
