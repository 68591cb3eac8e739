"""The models of a mergekit config, named: which is the base, which are sources, and under what name and path.

mergekit knows models by path alone. Here each gets the name of its folder or repository, numbered where two are alike,
and where the order of three or more is not that of their names, for sums are taken in the order of the names.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from automerge.config import locate
from automerge.errors import ConfigError
from automerge.merge.mergekit.schema import Input, MergekitConfig, ModelName
from automerge.merge.mergekit.table import Known
from automerge.merge.registry import miscounted
from automerge.recipe import UNION

BASE = "base"


@dataclass(frozen=True)
class Cast:
    """`base`, `sources`: what open_models takes. `names`: each model as the file gives it → its name.

    `theta`: whether the base is θ to the method; where it is not, it only lends config, tokenizer and tensor names. It
    is base_model; without one what the first adapter is over, else the first model.
    """

    base: str
    sources: Mapping[str, str]
    names: Mapping[ModelName, str]
    theta: bool
    folder: Path  # the config's

    def name_of(self, model: ModelName) -> str | None:
        """The model's name; None where the config does not merge it. A path may be written in several ways."""
        if model in self.names:
            return self.names[model]
        place = _place(model, self.folder)
        return next((name for known, name in self.names.items() if _place(known, self.folder) == place), None)

    def locators_of(self, model: ModelName) -> tuple[str, ...]:
        """What is opened for it: of an adapter its base as well."""
        return tuple(path for path in _place(model, self.folder) if path)


def cast_of(config: MergekitConfig, known: Known, path: Path) -> Cast:
    """Raises ConfigError for a missing base, several bases, a model given twice, an adapter that cannot be used, or
    too few or too many models."""
    folder, where = path.resolve().parent, str(path)
    spelt: dict[tuple[str, str], ModelName] = {}  # each model as the file has it first
    for model in _inputs(config, folder, where):
        spelt.setdefault(_place(model, folder), model)
    given = list(spelt.values())
    base = _base_of(config, folder, where)
    base = base and spelt.get(_place(base, folder), base)
    if known.role == "base" and base is None:
        hint = "Add base_model: the model that the others are fine-tunes of."
        raise ConfigError(f"{config.merge_method} needs a base_model", where=where, hint=hint)
    theta = base is not None and known.role != "input"
    if base is not None and not theta and config.models and base not in given:
        given.append(base)  # to mergekit it is a model like the others
    frame = base or next((model for model in given if model.lora), given[0])
    if theta and frame.lora:
        hint = f"Merge the adapter first (merge_method: passthrough, models: [{{model: {frame}}}]); name that folder."
        raise ConfigError(f"base_model: {frame} is an adapter over a model", where=where, hint=hint)
    inputs = [model for model in given if not theta or model != frame]
    names = _names(inputs, keep_order=len(inputs) > 2 or known.role == "optional")
    sources = {names[model]: _locator(model, frame, folder, where) for model in inputs}
    if theta:
        names[frame] = BASE
    merged = {_place(model, folder) for model in inputs}
    lists = {where: inputs}
    if config.slices and known.models[1] is not None:  # so many in each slice, and in each it may be others
        parts = [[entry.model for entry in part.sources] for part in config.slices]
        lists = {
            f"{where}: slices[{number}]": [model for model in part if _place(model, folder) in merged]
            for number, part in enumerate(parts)
        }
    for there, models in lists.items():
        _check_number(config, known, models, there)
    return Cast(_path(frame.locator, folder), sources, names, theta, folder)


def _inputs(config: MergekitConfig, folder: Path, where: str) -> list[ModelName]:
    """Every model listed, in order. Raises ConfigError for one that stands twice in one list."""
    parts: list[list[Input]] = [[*part.sources] for part in config.slices or ()] or [config.models or []]
    for number, part in enumerate(parts):
        seen = [_place(entry.model, folder) for entry in part]
        for entry, place in zip(part, seen, strict=True):
            if seen.count(place) > 1:
                there = f"slices[{number}]" if config.slices else "models"
                raise ConfigError(f"{there}: {entry.model} is there twice", where=where, hint="Give each model once.")
    return [entry.model for part in parts for entry in part]


def _base_of(config: MergekitConfig, folder: Path, where: str) -> ModelName | None:
    found = [config.base_model] if config.base_model else []
    found += [part.base_model for part in config.slices or () if part.base_model]
    if len({_place(model, folder) for model in found}) > 1:
        names = ", ".join(str(model) for model in dict.fromkeys(found))
        raise ConfigError(f"one base is supported, got {names}", where=where, hint="Merge in two steps.")
    if found and not config.base_model and any(part.base_model is None for part in config.slices or ()):
        raise ConfigError("some slices have a base_model and some have none", where=where, hint="Set it at the top.")
    return found[0] if found else None


def _check_number(config: MergekitConfig, known: Known, models: list[ModelName], where: str) -> None:
    beside = " besides the base" if known.role == "base" else ""
    if problem := miscounted(config.merge_method, known.models, "model", [str(model) for model in models], beside):
        raise ConfigError(problem, where=where)


def _names(models: list[ModelName], *, keep_order: bool) -> dict[ModelName, str]:
    """`keep_order`: sources are summed in the order of their names, and mergekit sums in the file's: where the two
    differ, every name begins with its place."""
    names: dict[ModelName, str] = {}
    for model in models:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path((model.lora or model.path).rstrip("/")).name).strip("-._")
        stem = f"model-{stem}".rstrip("-") if stem in ("", BASE, UNION) else stem
        name, number = stem, 2
        while name in names.values():
            name, number = f"{stem}-{number}", number + 1
        names[model] = name
    if keep_order and sorted(names.values()) != list(names.values()):
        width = len(str(len(names)))
        names = {model: f"{place:0{width}}-{name}" for place, (model, name) in enumerate(names.items(), 1)}
    return names


def _locator(model: ModelName, frame: ModelName, folder: Path, where: str) -> str:
    if not model.lora:
        return _path(model.locator, folder)
    if _path(model.locator, folder) != _path(frame.locator, folder):
        message = f"{model}: an adapter over another model than the base, {frame.locator}"
        hint = f"Merge it first (merge_method: passthrough, models: [{{model: {model}}}]); name that folder."
        raise ConfigError(message, where=where, hint=hint)
    return _path(model.lora_locator, folder)


def _place(model: ModelName, folder: Path) -> tuple[str, str]:
    """Where the model lies, and its adapter ("" without one): the same however the paths are written."""
    return _path(model.locator, folder), _path(model.lora_locator, folder) if model.lora else ""


def _path(text: str, folder: Path) -> str:
    """A folder from where the command runs, as mergekit takes it, or from the config's folder; else a hub id."""
    here = os.path.expanduser(text)
    return os.path.realpath(here) if os.path.isdir(here) else locate(text, folder)
