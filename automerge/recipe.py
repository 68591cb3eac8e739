"""A recipe: one complete, canonical description of a merge. Same recipe, same hash, same merged bytes.

It knows nothing of how a merge is computed, searched or scored.

A recipe's canonical JSON leaves out where the models lie (`path`), because their content digests name them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automerge.errors import ConfigError

FORMAT = 1
MODULES = ("attention", "mlp", "rest")  # the kinds of module a group may name; "all" stands for every one of them

Value = float | Mapping[str, float]  # one number for the whole merge, or one per source


@dataclass(frozen=True)
class ModelRef:
    """A model named by its content. `digest` is 64 hex digits over its weights; `path` is only where it was found."""

    name: str
    path: str
    digest: str


@dataclass(frozen=True)
class Group:
    """The layers (start inclusive, stop exclusive) × modules that share one set of parameters.

    `values` holds one entry a method parameter, e.g. {"weight": {"math": 0.6, "code": 0.4}, "lambda": 1.0}.
    """

    layers: tuple[int, int]
    modules: str
    values: Mapping[str, Value]

    @property
    def name(self) -> str:
        """E.g. `layers.0-3.attention` (stop exclusive)."""
        return f"layers.{self.layers[0]}-{self.layers[1]}.{self.modules}"


@dataclass(frozen=True)
class Recipe:
    """What is merged, and how. `sources` and the per-source values are ordered by name; see `make_recipe`."""

    method: str
    base: ModelRef
    sources: tuple[ModelRef, ...]
    groups: tuple[Group, ...]
    options: Mapping[str, bool]  # switches of the method, e.g. normalize, rescale
    dtype: str  # of the merged weights: float32, bfloat16 or float16
    seed: int
    tokenizer: str  # "base", or the name of the source whose tokenizer and chat template the merge takes

    def canonical(self) -> dict[str, Any]:
        """The recipe as plain values in a fixed order, without `path`."""
        return {
            "format": FORMAT,
            "method": self.method,
            "base": {"name": self.base.name, "digest": self.base.digest},
            "sources": [{"name": s.name, "digest": s.digest} for s in self.sources],
            "groups": [
                {"layers": list(g.layers), "modules": g.modules, "values": _plain(g.values)} for g in self.groups
            ],
            "options": {key: self.options[key] for key in sorted(self.options)},
            "dtype": self.dtype,
            "seed": self.seed,
            "tokenizer": self.tokenizer,
        }

    @property
    def hash(self) -> str:
        """64 hex digits over the canonical JSON."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Readable JSON with the paths, as `recipe.json` holds it."""
        data = self.canonical()
        data["base"]["path"] = self.base.path
        for entry, source in zip(data["sources"], self.sources, strict=True):
            entry["path"] = source.path
        return json.dumps(data, indent=2)


def make_recipe(
    *,
    method: str,
    base: ModelRef,
    sources: tuple[ModelRef, ...],
    groups: tuple[Group, ...],
    options: Mapping[str, bool],
    dtype: str,
    seed: int,
    tokenizer: str = "base",
) -> Recipe:
    """A recipe in canonical order. Raises ConfigError on doubled names or numbers that are not finite."""
    names = [base.name, *(s.name for s in sources)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"each model needs a name of its own; doubled: {', '.join(doubled)}")
    if tokenizer not in ("base", *(s.name for s in sources)):
        raise ConfigError(f"tokenizer: expected base or a source's name, got {tokenizer!r}")
    for group in groups:
        for parameter, value in group.values.items():
            numbers = value.values() if isinstance(value, Mapping) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                raise ConfigError(f"parameter {parameter!r} is not finite: {value}", where=group.name)
    ordered = tuple(sorted(groups, key=lambda g: (g.layers, g.modules)))
    return Recipe(
        method=method,
        base=base,
        sources=tuple(sorted(sources, key=lambda s: s.name)),
        groups=tuple(replace(g, values=_plain(g.values)) for g in ordered),
        options=dict(sorted(options.items())),
        dtype=dtype,
        seed=seed,
        tokenizer=tokenizer,
    )


def read_recipe(path: Path) -> Recipe:
    """The recipe in a JSON file. Raises ConfigError where it is missing or is not a recipe."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the recipe: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"not a recipe: expected UTF-8 text: {error}", where=str(path)) from error
    return parse_recipe(text, where=str(path))


def parse_recipe(text: str, *, where: str = "recipe") -> Recipe:
    """The recipe written by `Recipe.to_json`; `path` entries may be missing, as in its canonical form."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ConfigError(f"expected recipe format {FORMAT}, got {data['format']}", where=where)
        if unknown := sorted(set(data) - _KEYS):
            raise ConfigError(f"unknown key {unknown[0]!r}; known keys: {', '.join(sorted(_KEYS))}", where=where)
        return make_recipe(
            method=str(data["method"]),
            base=_ref(data["base"]),
            sources=tuple(_ref(entry) for entry in data["sources"]),
            groups=tuple(
                Group((int(g["layers"][0]), int(g["layers"][1])), str(g["modules"]), _plain(g["values"]))
                for g in data["groups"]
            ),
            options={str(key): _switch(str(key), value) for key, value in data["options"].items()},
            dtype=str(data["dtype"]),
            seed=int(data["seed"]),
            tokenizer=str(data["tokenizer"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        kind = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"not a recipe: {kind}", where=where, hint="Expected JSON as in recipe.json.") from error


_KEYS = {"format", "method", "base", "sources", "groups", "options", "dtype", "seed", "tokenizer"}


def _ref(entry: Mapping[str, Any]) -> ModelRef:
    return ModelRef(str(entry["name"]), str(entry.get("path", "")), str(entry["digest"]))


def _switch(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"options: {key}: expected true or false, got {value!r}")
    return value


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {name: float(v) for name, v in sorted(value.items())} if isinstance(value, Mapping) else float(value)
        for key, value in sorted(values.items())
    }
