"""What must not change within a study: config, model contents, items, scorers. Paths and budgets may."""

import json
from collections.abc import Mapping
from typing import Any

from automerge.config import SearchConfig
from automerge.evals.loaded import LoadedSkill
from automerge.merge.models import Models

# held by content below, or of no consequence
_FREE: Any = {
    **dict.fromkeys(("name", "about", "base", "sources", "skills", "start_from"), True),
    "engine": {"residency", "timeout"},
}


def identity(config: SearchConfig, models: Models, skills: Mapping[str, LoadedSkill]) -> dict[str, str]:
    """Flat key → text. Keys start with config., model. or skill."""
    held = _flat("config", config.model_dump(mode="json", exclude=_FREE))
    for ref in (models.base_ref, *models.source_refs):
        held[f"model.{ref.name}"] = ref.digest[:16]
    for name, skill in skills.items():
        held[f"skill.{name}"] = skill.hash[:16]
    return held


def _flat(prefix: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        found = {}
        for key, entry in value.items():
            found.update(_flat(f"{prefix}.{key}", entry))
        return found
    return {prefix: json.dumps(value)}
