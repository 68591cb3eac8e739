"""Skill files as plain mappings: where they are found, what they build on, and how overrides are laid over them.

use: OTHER                 first in a file: its keys are laid over those of another file
skills: {MEMBER: {…}, …}   a suite: what its members share, and each one's own keys; a member is SUITE/MEMBER
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automerge.config import find_shipped, read_yaml, shipped_names
from automerge.errors import ConfigError, meant

LM_EVAL = "lm_eval:"  # before the name of one of lm-eval's tasks, which needs no file
_LM_EVAL: dict[str, Any] = {"chat": False, "scorer": {"type": "lm_eval"}}
_DEPTH = 8  # files that build on one another


def read_use(
    use: str | Path | Mapping[str, Any], *, folder: Path, name: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """(file, its keys with everything it builds on and the overrides); see skill.load_skill. Raises ConfigError."""
    overrides = dict(use) if isinstance(use, Mapping) else {"use": use}
    path = folder / "(inline)" if name is None else folder / name
    data: dict[str, Any] = {}
    if (wanted := overrides.pop("use", None)) is not None:
        wanted = str(wanted)  # a Path is welcome too
        if wanted.startswith(LM_EVAL):
            task = wanted.removeprefix(LM_EVAL)
            path, data = folder / wanted, {**_LM_EVAL, "name": wanted, "data": {"lm_eval": task}}
        else:
            path, data = _read_named(wanted, folder, _DEPTH)
    data = _merged(data, _with_absolute_paths(overrides, folder))
    if name is not None:
        data["name"] = name
    return path, data


def members_of(suite: Mapping[str, Any], path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The skills of a suite, each with its own keys; none where it is one skill. Raises ConfigError."""
    members = suite.get("skills") or {}
    if not isinstance(members, Mapping) or not all(isinstance(own, Mapping) for own in members.values()):
        raise ConfigError("expected skills: {NAME: {keys of its own}, …}", where=str(path))
    return members


def member_of(suite: Mapping[str, Any], member: str, path: Path) -> dict[str, Any]:
    """One skill of a suite. Raises ConfigError for a member it does not have."""
    members = members_of(suite, path)
    if not members:
        raise ConfigError(f"one skill, and no suite that could have a skill {member!r}", where=str(path))
    if member not in members:
        raise ConfigError(f"the suite has no skill {member!r}; it has: {', '.join(members)}", where=str(path))
    shared = {key: value for key, value in suite.items() if key != "skills"}
    return {**_merged(shared, _with_absolute_paths(members[member], path.parent)), "name": f"{suite['name']}/{member}"}


def _read_named(use: str, folder: Path, depth: int) -> tuple[Path, dict[str, Any]]:
    path, member = _find(use, folder)
    if not depth:
        raise ConfigError(f"more than {_DEPTH} files that build on one another; in a circle?", where=str(path))
    data = _with_absolute_paths(read_yaml(path), path.resolve().parent)
    if (below := data.pop("use", None)) is not None:
        data = _merged(_read_named(str(below), path.resolve().parent, depth - 1)[1], data)
    data.setdefault("name", path.stem)
    return path, data if member is None else member_of(data, member, path)


def _find(use: str, folder: Path) -> tuple[Path, str | None]:
    """(file, member of the suite it is)."""
    asked = Path(os.path.expanduser(use))
    if not asked.name:
        raise ConfigError(f"expected the name or the path of a skill, got {use!r}", where=str(folder))
    if (found := _file(asked, folder)) is not None:
        return found, None
    suite, slash, member = use.rpartition("/")
    place = Path(os.path.expanduser(suite))
    if place.name and asked.suffix not in (".yaml", ".yml") and (found := _file(place, folder)) is not None:
        return found, member
    shipped = shipped_names("evals")
    name = suite if slash else use
    if name in shipped or not (slash or asked.suffix in (".yaml", ".yml") or os.path.isdir(folder / asked)):
        return find_shipped("evals", name), member if slash else None
    raise _no_skill(use, folder, shipped)


def _no_skill(use: str, folder: Path, shipped: Sequence[str]) -> ConfigError:
    """The error for a path that leads to no skill."""
    asked = folder / os.path.expanduser(use)
    if os.path.isdir(asked):
        files = sorted(file.name for file in asked.glob("*.y*ml"))
        hint = f"Name a file in it: {', '.join(files)}." if files else f"Shipped skills: {', '.join(shipped)}."
        return ConfigError("is a folder, not a skill", where=use, hint=hint)
    files = sorted(file.name for file in asked.parent.glob("*.y*ml"))
    near = meant(asked.name, files) or meant(use.partition("/")[0].removesuffix(asked.suffix), shipped)
    looked = "" if folder == Path() else f"{folder}, "
    hint = f"Looked in {looked}./evals and the current folder. Shipped skills: {', '.join(shipped)}."
    return ConfigError(f"no such skill file{near}", where=use, hint=hint)


def _file(asked: Path, folder: Path) -> Path | None:
    names = [asked] if asked.suffix in (".yaml", ".yml") else [asked.with_name(f"{asked.name}.yaml"), asked]
    places = (start / name for name in names for start in (folder, Path("evals"), Path()))
    return next((place for place in places if os.path.isfile(place)), None)


def _with_absolute_paths(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The mapping with the paths under `data` made absolute: they are relative to the file they stand in."""
    rows = data.get("data")
    if not isinstance(rows, Mapping):
        return dict(data)
    absolute = {
        key: str((folder / os.path.expanduser(rows[key])).absolute())
        for key in ("path", "join", "include")
        if isinstance(rows.get(key), str)
    }
    return {**data, "data": {**rows, **absolute}}


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `below`, mapping by mapping. What excludes another key replaces it."""
    result = dict(below)
    for key, value in over.items():
        kept = result.get(key)
        if isinstance(value, Mapping) and isinstance(kept, Mapping) and key not in _WHOLE:
            changed_kind = key == "scorer" and value.get("type", kept.get("type")) != kept.get("type")
            kept = {} if changed_kind else kept
            result[key] = _merged(_without_rivals(kept, value) if key == "data" else kept, value)
        else:
            result[key] = value
    for one, other in (("prompt", "turns"), ("turns", "prompt")):
        if one in over and other in below and other not in over:
            del result[other]
    return result


# Replaced as a whole: half of one judge and half of another would send one's key to the other.
_WHOLE = ("judge",)


def _without_rivals(data: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    rivals: tuple[str, ...] = ()
    if "path" in over:
        rivals = ("hub", "config", "split", "revision", "lm_eval")
    elif "hub" in over:
        rivals = ("path", "config", "split", "revision", "join", "lm_eval")
    return {key: value for key, value in data.items() if key not in rivals}
