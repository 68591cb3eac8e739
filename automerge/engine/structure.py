"""What a served module depends on besides its weights: tensors and config. Merges with the same can share an engine."""

import json
from collections.abc import Mapping
from typing import Any

from automerge.merge.vocabulary.ids import is_token_key


def structure(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> str:
    """Equal for two merges that one module can serve. Special tokens in the config count for nothing."""
    rest = {key: value for key, value in config.items() if not is_token_key(key)}
    return json.dumps([sorted((name, *shape) for name, shape in shapes.items()), rest], sort_keys=True)
