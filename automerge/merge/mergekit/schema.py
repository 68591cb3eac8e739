"""mergekit's YAML as closed, typed models. It knows the shape of the file; methods and models are for read.py.

A parameter's setting is a number, switch or word; a list of them, which is a gradient over the layers; or conditions,
[{filter, value}], the first that fits a tensor's name.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from automerge.config import Closed, mistakes, read_yaml, validate
from automerge.errors import ConfigError
from automerge.merge.vocabulary.rows import MAX_MULTIPLE
from automerge.recipe import UNION

Scalar = bool | int | float | str
Name = Annotated[str, Field(min_length=1)]


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


Whole = Annotated[int, BeforeValidator(_no_switch)]


class ModelName(Closed):
    """A model: `path`, a folder or hub id, at a `revision`; `lora`, where given, is an adapter over it."""

    path: Name
    revision: str = ""
    lora: str = ""
    lora_revision: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str):
            return _split(data)
        if isinstance(data, dict) and "model" in data:
            extra = sorted(set(data) - {"model", "lora"})
            if extra:
                raise ValueError(f"{extra[0]}: not supported; name a model by its path alone")
            lora = data.get("lora")
            return {**_split_one("path", data["model"]), **_split_one("lora", "" if lora is None else lora)}
        if not isinstance(data, dict | ModelName):
            raise ValueError("expected a model: path, path@revision or path+lora")
        return data

    def __str__(self) -> str:
        return _joined(self.path, self.revision) + (f"+{_joined(self.lora, self.lora_revision)}" if self.lora else "")

    @property
    def locator(self) -> str:
        """path or path@revision."""
        return _joined(self.path, self.revision)

    @property
    def lora_locator(self) -> str:
        """The adapter's path or path@revision, "" without one."""
        return _joined(self.lora, self.lora_revision)


def _joined(path: str, revision: str) -> str:
    return f"{path}@{revision}" if revision else path


def _split(text: str) -> dict[str, Any]:
    if os.path.isdir(os.path.expanduser(text)):  # a folder may have any name
        return {"path": text}
    path, plus, lora = text.partition("+")
    if plus and (not lora or "+" in lora):
        raise ValueError(f"expected path or path+lora, got {text!r}")
    return {**_split_one("path", path), **_split_one("lora", lora)}


def _split_one(key: str, given: Any) -> dict[str, Any]:
    prefix = "" if key == "path" else "lora_"
    if isinstance(given, dict):
        if extra := [name for name in given if name not in ("path", "revision")]:
            raise ValueError(f"unknown key {extra[0]!r}; known keys: path, revision")
        revision = given.get("revision")
        return {key: given.get("path", ""), f"{prefix}revision": "" if revision is None else revision}
    if not isinstance(given, str):
        raise ValueError(f"{'model' if key == 'path' else key}: expected a path or {{path, revision}}, got {given!r}")
    path, _, revision = given.partition("@")
    if revision and os.path.isdir(os.path.expanduser(given)):
        return {key: given}
    return {key: path, f"{prefix}revision": revision}


class Condition(Closed):
    """A value for the tensors whose name contains `filter`; for all without one, or with "*"."""

    value: Scalar | list[Scalar]
    filter: str | None = None

    @field_validator("value", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return _refuse_nesting(value)

    def fits(self, tensor: str) -> bool:
        """Whether the tensor is meant."""
        return self.filter is None or self.filter == "*" or self.filter in tensor


def _refuse_nesting(value: Any) -> Any:
    if isinstance(value, list):
        if not all(isinstance(entry, Scalar) for entry in value):
            raise ValueError("expected numbers, switches or words in a list, or only conditions {filter, value}")
        if not value:
            raise ValueError("the list is empty; leave the parameter out, or give it a value")
    elif not isinstance(value, Scalar):
        raise ValueError("expected a number, a switch, a word or a list of them")
    return value


class Setting(Closed):
    """A parameter's value as the file gives it: conditions in their order, one without a filter if it is plain."""

    conditions: tuple[Condition, ...]

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {"conditions": (data,)}
        if isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
            return {"conditions": tuple(data)}
        return {"conditions": ({"value": _refuse_nesting(data)},)}


Settings = Annotated[dict[Name, Setting], BeforeValidator(_none_is_empty)]


class Input(Closed):
    """A model of `models:`."""

    model: ModelName
    parameters: Settings = Field(default_factory=dict)


class SliceInput(Input):
    """A model of a slice, and its layers: start and stop, the stop excluded."""

    layer_range: tuple[Whole, Whole]

    @field_validator("layer_range")
    @classmethod
    def _forward(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= value[0] < value[1]:
            raise ValueError(f"expected [start, stop] with 0 ≤ start < stop, got {list(value)}")
        return value


class SliceOutput(Closed):
    """A run of the merge's layers."""

    sources: Annotated[list[SliceInput], Field(min_length=1)]
    base_model: ModelName | None = None
    residual_weight: float | None = None  # mergekit reads it and does nothing with it
    parameters: Settings = Field(default_factory=dict)

    @model_validator(mode="after")
    def _equally_long(self) -> "SliceOutput":
        lengths = {source.layer_range[1] - source.layer_range[0] for source in self.sources}
        if len(lengths) > 1:
            given = ", ".join(f"{source.model} {list(source.layer_range)}" for source in self.sources)
            raise ValueError(f"the layer ranges of a slice must be equally long, got {given}")
        return self


class Zeros(Closed):
    """A row of zeros."""

    kind: Literal["zero"]


class ModelToken(Closed):
    """A row of a model, by its token or by its number."""

    kind: Literal["model_token"]
    model: ModelName
    token: str | None = None
    token_id: Annotated[Whole, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ModelToken":
        if (self.token is None) == (self.token_id is None):
            raise ValueError("expected either token or token_id")
        return self

    @property
    def row(self) -> str | int:
        """The token, or the number."""
        return self.token if self.token is not None else self.token_id or 0


class TokenRule(Closed):
    """Where a token's row comes from, for the models that lack it or, with `force`, for all."""

    source: ModelToken | Zeros | ModelName | None = None
    force: bool = False

    @field_validator("source", mode="before")
    @classmethod
    def _kinds(cls, value: Any) -> Any:
        if isinstance(value, dict) and "kind" in value:
            kinds: dict[str, type[Closed]] = {"zero": Zeros, "model_token": ModelToken}
            if not isinstance(value["kind"], str) or value["kind"] not in kinds:
                raise ValueError(f"expected a model or a kind, zero or model_token, got {value['kind']!r}")
            return _made(kinds[value["kind"]], value)
        return None if value is None else _made(ModelName, value)


def _made(kind: type[Closed], value: Any) -> Closed:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(mistakes(error))) from None


def _whose(value: Any) -> Any:
    return value if value in ("base", UNION) else _made(ModelName, value)


Whose = Annotated[Literal["base", "union"] | ModelName, BeforeValidator(_whose)]  # a tokenizer


class Tokenizer(Closed):
    """The merge's vocabulary: of every model, of the base, or of one model."""

    source: Whose = "union"
    tokens: Annotated[dict[str, TokenRule], BeforeValidator(_none_is_empty)] = Field(default_factory=dict)
    pad_to_multiple_of: Annotated[Whole, Field(ge=1, le=MAX_MULTIPLE)] | None = None


def _short(value: Any) -> Any:
    return value.removeprefix("torch.") if isinstance(value, str) else value


Dtype = Annotated[Literal["float32", "bfloat16", "float16"], BeforeValidator(_short)]  # torch.bfloat16 as well


class MergekitConfig(Closed):
    """A config of mergekit-yaml."""

    merge_method: Name
    models: list[Input] | None = None
    slices: list[SliceOutput] | None = None
    base_model: ModelName | None = None
    parameters: Settings = Field(default_factory=dict)
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: Whose | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_modules(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("modules"):
            raise ValueError("modules: only models of one part are merged; write its models or slices at the top")
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key != "modules"}
        return data

    @model_validator(mode="after")
    def _one_of_both(self) -> "MergekitConfig":
        if bool(self.models) == bool(self.slices):
            if self.models:
                raise ValueError("expected either models or slices, got both")
            empty = [key for key in ("models", "slices") if getattr(self, key) == []]
            raise ValueError(
                f"expected either models or slices, got {f'{empty[0]}: [], which is empty' if empty else 'neither'}"
            )
        if self.tokenizer_source and self.tokenizer:
            raise ValueError("expected either tokenizer_source or tokenizer, got both")
        return self


def is_mergekit(path: Path) -> bool:
    """Whether the file is to be read as mergekit's YAML: so it is called, or it is no JSON by name or first letter."""
    if path.suffix.lower() in (".yml", ".yaml", ".json"):
        return path.suffix.lower() != ".json"
    try:
        return not path.read_text(encoding="utf-8", errors="replace").lstrip().startswith("{")
    except OSError:
        return False


def parse_mergekit(path: Path) -> MergekitConfig:
    """The config in a file. Raises ConfigError listing every mistake in its shape."""
    data = read_yaml(path, variables=False)  # mergekit has none, and a template's ${…} is its own
    if "experts" in data:
        hint = "A mixture of experts is made by: automerge moe CONFIG OUT"
        raise ConfigError("experts: this is a config of mergekit-moe", where=str(path), hint=hint)
    return validate(MergekitConfig, data, str(path))
