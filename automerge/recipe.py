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
Setting = bool | str
UNION = "union"  # as a tokenizer: the base's tokens, then every further one of the sources


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
    `tensors`, where given, are the only tensors of those layers and modules that the group covers.
    """

    layers: tuple[int, int]
    modules: str
    values: Mapping[str, Value]
    tensors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """E.g. `layers.0-3.attention` (stop exclusive)."""
        return f"layers.{self.layers[0]}-{self.layers[1]}.{self.modules}"


@dataclass(frozen=True)
class Slice:
    """A run of the merge's layers, and where each model has its part: model name → layers (start, stop exclusive).

    The ranges are equally long. A model that is not named takes no part in these layers.
    """

    layers: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class TokenRule:
    """Which row a token takes: one of `model`'s, or, where that is None, zeros.

    `token` says which of the model's rows: that of another token, the row of that number, or, "", the token's own.
    With `force` every model takes it, else those that lack the token.
    """

    model: str | None
    token: str | int = ""
    force: bool = True


@dataclass(frozen=True)
class Vocabulary:
    """How tokens become rows of the embeddings, where tokenizers differ or rules are wanted.

    `tokens`: token → its rule; other tokens follow those of merge/vocabulary/rows.py. A token with a rule is one of the
    merge's. `pad_to_multiple_of` rounds the number of rows up, 0 leaves it.
    """

    tokens: Mapping[str, TokenRule]
    pad_to_multiple_of: int = 0


@dataclass(frozen=True)
class Mixture:
    """A sparse model in place of a dense one: each expert is one model's feed-forward part as it is, and what is no
    feed-forward part is the dense merge's.

    `experts` and `shared` (an expert that every token passes; "": none) name models of the recipe, the base among them.
    `router` names the file of router rows, merge/sparse/rows.py; they are divided by `temperature`.
    """

    architecture: str  # of merge/sparse/family.py
    experts: tuple[str, ...]
    per_token: int  # experts that a token is sent to
    router: ModelRef
    temperature: float = 1.0
    shared: str = ""


@dataclass(frozen=True)
class Recipe:
    """What is merged, and how. `sources` and the per-source values are ordered by name; see `make_recipe`."""

    method: str
    base: ModelRef
    sources: tuple[ModelRef, ...]
    groups: tuple[Group, ...]
    options: Mapping[str, Setting]  # of the method, e.g. normalize, dialect
    dtype: str  # of the merged weights: float32, bfloat16 or float16
    seed: int
    tokenizer: str  # "base", the name of the source whose tokenizer and chat template the merge takes, or "union"
    slices: tuple[Slice, ...] = ()  # none: every layer of every model, one to one
    vocabulary: Vocabulary | None = None
    chat_template: str = ""  # a Jinja template in place of the tokenizer's own
    mixture: Mixture | None = None  # None: a dense model
    rows: str = ""  # a digest of which row of whose embeddings is which token's, where the models' vocabularies differ

    def canonical(self) -> dict[str, Any]:
        """The recipe as plain values in a fixed order, without `path`."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "method": self.method,
            "base": {"name": self.base.name, "digest": self.base.digest},
            "sources": [{"name": s.name, "digest": s.digest} for s in self.sources],
            "groups": [_plain_group(group) for group in self.groups],
            "options": {key: self.options[key] for key in sorted(self.options)},
            "dtype": self.dtype,
            "seed": self.seed,
            "tokenizer": self.tokenizer,
        }
        if self.slices:  # what is seldom used is left out where it is not
            plain["slices"] = [{name: list(part.layers[name]) for name in sorted(part.layers)} for part in self.slices]
        if self.vocabulary is not None:
            rules = self.vocabulary.tokens
            plain["vocabulary"] = {
                "tokens": {token: _plain_rule(rules[token]) for token in sorted(rules)},
                "pad_to_multiple_of": self.vocabulary.pad_to_multiple_of,
            }
        if self.chat_template:
            plain["chat_template"] = self.chat_template
        if self.mixture is not None:
            plain["mixture"] = _plain_mixture(self.mixture)
        if self.rows:
            plain["rows"] = self.rows
        return plain

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
        if self.mixture is not None:
            data["mixture"]["router"]["path"] = self.mixture.router.path
        return json.dumps(data, indent=2)


def make_recipe(
    *,
    method: str,
    base: ModelRef,
    sources: tuple[ModelRef, ...],
    groups: tuple[Group, ...],
    options: Mapping[str, Setting],
    dtype: str,
    seed: int,
    tokenizer: str = "base",
    slices: tuple[Slice, ...] = (),
    vocabulary: Vocabulary | None = None,
    chat_template: str = "",
    mixture: Mixture | None = None,
    rows: str = "",
) -> Recipe:
    """A recipe in canonical order. Raises ConfigError on doubled names, numbers that are not finite, unequal slices,
    experts that are no models of it."""
    names = [base.name, *(s.name for s in sources)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"each model needs a name of its own; doubled: {', '.join(doubled)}")
    if tokenizer not in ("base", UNION, *(s.name for s in sources)):
        raise ConfigError(f"tokenizer: expected base, union or a source's name, got {tokenizer!r}")
    for number, part in enumerate(slices):
        _check_slice(part, names, f"slices[{number}]")
    if mixture is not None:
        _check_mixture(mixture, names, bool(slices))
    for token, rule in (vocabulary.tokens if vocabulary else {}).items():
        _check_rule(token, rule, names)
    for group in groups:
        for parameter, value in group.values.items():
            numbers = value.values() if isinstance(value, Mapping) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                raise ConfigError(f"parameter {parameter!r} is not finite: {value}", where=group.name)
    ordered = tuple(sorted(groups, key=lambda g: (g.layers, g.modules, g.tensors)))
    return Recipe(
        method=method,
        base=base,
        sources=tuple(sorted(sources, key=lambda s: s.name)),
        groups=tuple(replace(g, values=_plain(g.values), tensors=tuple(sorted(g.tensors))) for g in ordered),
        options=dict(sorted(options.items())),
        dtype=dtype,
        seed=seed,
        tokenizer=tokenizer,
        slices=slices,
        vocabulary=vocabulary and replace(vocabulary, tokens=_own_left_out(vocabulary.tokens)),
        chat_template=chat_template,
        mixture=mixture,
        rows=rows,
    )


def _check_mixture(mixture: Mixture, names: list[str], stacked: bool) -> None:
    where = "mixture"
    if stacked:
        raise ConfigError("the layers of a sparse model cannot be stacked: either slices or a mixture", where=where)
    for name in (*mixture.experts, *([mixture.shared] if mixture.shared else [])):
        if name not in names:
            raise ConfigError(f"{name!r} is not a model in this recipe; it has {', '.join(names)}", where=where)
    if not 1 <= mixture.per_token <= len(mixture.experts):
        message = (
            f"expected 1 to {len(mixture.experts)} experts per token, the number there are, got {mixture.per_token}"
        )
        raise ConfigError(message, where=where)
    if not (math.isfinite(mixture.temperature) and mixture.temperature > 0):
        raise ConfigError(f"temperature: expected a number above 0, got {mixture.temperature}", where=where)


def with_router(recipe: Recipe, path: Path) -> Recipe:
    """The recipe, whose router rows lie there now. One without a mixture is as it was."""
    if recipe.mixture is None:
        return recipe
    router = replace(recipe.mixture.router, path=str(path))
    return replace(recipe, mixture=replace(recipe.mixture, router=router))


def _check_rule(token: str, rule: TokenRule, names: list[str]) -> None:
    if rule.model is not None and rule.model not in names:
        raise ConfigError(f"the token {token!r} is to come from {rule.model!r}, which is not a model in this recipe")
    if rule.model is None and rule.token != "":
        raise ConfigError(f"the token {token!r} is to be zeros, and yet the row of {rule.token!r}")


def _own_left_out(rules: Mapping[str, TokenRule]) -> dict[str, TokenRule]:
    return {token: replace(rule, token="") if rule.token == token else rule for token, rule in rules.items()}


def _check_slice(part: Slice, names: list[str], where: str) -> None:
    if not part.layers:
        raise ConfigError("a slice needs at least one model", where=where)
    for name, (start, stop) in part.layers.items():
        if name not in names:
            raise ConfigError(f"{name!r} is not a model in this recipe; it has {', '.join(names)}", where=where)
        if not 0 <= start < stop:
            raise ConfigError(f"{name}: expected 0 ≤ start < stop, got {start} and {stop}", where=where)
    if len({stop - start for start, stop in part.layers.values()}) > 1:
        given = ", ".join(f"{name} {start}–{stop}" for name, (start, stop) in part.layers.items())
        raise ConfigError(f"the models' layer ranges must be equally long, got {given}", where=where)


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
            groups=tuple(_group(entry) for entry in data["groups"]),
            options={str(key): _setting(str(key), value) for key, value in data["options"].items()},
            dtype=str(data["dtype"]),
            seed=int(data["seed"]),
            tokenizer=str(data["tokenizer"]),
            slices=tuple(
                Slice({str(name): (int(layers[0]), int(layers[1])) for name, layers in part.items()})
                for part in data.get("slices", ())
            ),
            vocabulary=_vocabulary(data["vocabulary"]) if "vocabulary" in data else None,
            chat_template=str(data.get("chat_template", "")),
            mixture=_mixture(data["mixture"]) if "mixture" in data else None,
            rows=str(data.get("rows", "")),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        kind = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"not a recipe: {kind}", where=where, hint="Expected JSON as in recipe.json.") from error


_KEYS = {"format", "method", "base", "sources", "groups", "options", "dtype", "seed", "tokenizer"} | {
    "slices",
    "vocabulary",
    "chat_template",
    "mixture",
    "rows",
}


def _ref(entry: Mapping[str, Any]) -> ModelRef:
    return ModelRef(str(entry["name"]), str(entry.get("path", "")), str(entry["digest"]))


def _group(entry: Mapping[str, Any]) -> Group:
    layers = (int(entry["layers"][0]), int(entry["layers"][1]))
    tensors = tuple(str(name) for name in entry.get("tensors", ()))
    return Group(layers, str(entry["modules"]), _plain(entry["values"]), tensors)


def _mixture(entry: Mapping[str, Any]) -> Mixture:
    return Mixture(
        architecture=str(entry["architecture"]),
        experts=tuple(str(name) for name in entry["experts"]),
        per_token=int(entry["per_token"]),
        router=_ref(entry["router"]),
        temperature=float(entry["temperature"]),
        shared=str(entry.get("shared", "")),
    )


def _plain_mixture(mixture: Mixture) -> dict[str, Any]:
    plain = {
        "architecture": mixture.architecture,
        "experts": list(mixture.experts),
        "per_token": mixture.per_token,
        "router": {"name": mixture.router.name, "digest": mixture.router.digest},
        "temperature": float(mixture.temperature),
    }
    return plain | ({"shared": mixture.shared} if mixture.shared else {})


def _vocabulary(entry: Mapping[str, Any]) -> Vocabulary:
    tokens = {str(token): _rule(rule) for token, rule in entry["tokens"].items()}
    return Vocabulary(tokens, int(entry["pad_to_multiple_of"]))


def _rule(entry: Any) -> TokenRule:
    if isinstance(entry, str):
        return TokenRule(entry)
    if set(entry) != {"model", "token", "force"}:
        raise ValueError(f"vocabulary: expected a model's name, or model, token and force, got {entry!r}")
    model, token, force = entry["model"], entry["token"], entry["force"]
    if not (isinstance(model, str | None) and isinstance(token, str | int) and isinstance(force, bool)):
        raise ValueError(f"vocabulary: expected a name or null, a token or row, true or false, got {entry!r}")
    if isinstance(token, bool):
        raise ValueError(f"vocabulary: expected a token or the number of a row, got {token!r}")
    return TokenRule(model, token, force)


def _plain_rule(rule: TokenRule) -> str | dict[str, Any]:
    """The model's name alone where that says it all."""
    if rule.model is not None and rule == TokenRule(rule.model):
        return rule.model
    return {"model": rule.model, "token": rule.token, "force": rule.force}


def _setting(key: str, value: Any) -> Setting:
    if not isinstance(value, bool | str):
        raise ValueError(f"options: {key}: expected true, false or a word, got {value!r}")
    return value


def _plain_group(group: Group) -> dict[str, Any]:
    plain: dict[str, Any] = {"layers": list(group.layers), "modules": group.modules, "values": _plain(group.values)}
    if group.tensors:
        plain["tensors"] = list(group.tensors)
    return plain


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {name: float(v) for name, v in sorted(value.items())} if isinstance(value, Mapping) else float(value)
        for key, value in sorted(values.items())
    }
