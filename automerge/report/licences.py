"""The licences of a merge's models, as their own cards state them, and what that leaves for the merge.

It reads what is written and gives no legal advice: where models differ, or one says nothing, the card says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.repocard import metadata_load

UNKNOWN = "not stated"


@dataclass(frozen=True)
class Licences:
    """Model → licence, in the order of the models. `merged`: the one all of them state, None where there is none."""

    stated: Mapping[str, str]
    merged: str | None

    @property
    def conflict(self) -> bool:
        """Whether two models state different licences."""
        return len({licence for licence in self.stated.values() if licence != UNKNOWN}) > 1


def licences(folders: Mapping[str, Path]) -> Licences:
    """From each model's README.md."""
    stated = {name: _stated(folder) for name, folder in folders.items()}
    kinds = set(stated.values())
    return Licences(stated, kinds.pop() if len(kinds) == 1 and UNKNOWN not in kinds else None)


def _stated(folder: Path) -> str:
    try:
        about = metadata_load(folder / "README.md") or {}
    except Exception:  # a card of somebody else's may hold anything
        return UNKNOWN
    found = about.get("license_name") if about.get("license") == "other" else about.get("license")
    return found if isinstance(found, str) and found else UNKNOWN
