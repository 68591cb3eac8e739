"""A skill file: where its items come from, how they are asked, how answers are scored. It loads no items.

name: svamp
data: {hub: ChilleD/SVAMP, split: test}        # or {path: items.jsonl}, beside this file
prompt: "{{ question }}"                       # or turns: [{role, content}, …]; both are Jinja over a row's fields
target: "{{ answer }}"                         # the gold answer (this is the default); for likelihood, the continuation
scorer: {type: numeric, calculator: true}
sampling: {max_tokens: 48}
items: {search: 64, held_out: 200}             # held_out: all = the rest
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from automerge.config import Closed, find_shipped, read_yaml, validate
from automerge.errors import ConfigError
from automerge.evals.scorers import Scorer, make_scorer
from automerge.evals.template import check_template
from automerge.records import Sampling

Jinja = Annotated[str, Field(min_length=1)]


class Data(Closed):
    """Where the rows are: a JSONL, JSON or Parquet file, or a hub dataset. `id` names the field that identifies a row;
    without it an item is identified by its content. A file is one split, so `split` matters for the hub only."""

    path: str | None = None
    hub: str | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None
    id: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Data":
        if (self.path is None) == (self.hub is None):
            raise ValueError("expected exactly one of path and hub")
        return self


class Turn(Closed):
    """One message of a conversation; `content` is Jinja."""

    role: Literal["system", "user", "assistant"]
    content: Jinja

    _parses = field_validator("content")(check_template)


class SamplingConfig(Closed):
    """How answers are generated: see records.Sampling."""

    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seed: int = 0


class ItemCounts(Closed):
    """How many items the search sees, and how many the verdict is made on; `all` is every other one."""

    search: Annotated[int, Field(ge=0)] = 64
    held_out: Annotated[int, Field(ge=0)] | Literal["all"] = "all"


class Skill(Closed):
    """One skill, as its file says it. `chat: false` sends the prompt as it is, without a chat template."""

    name: Annotated[str, Field(min_length=1)]
    about: str = ""
    source: str = ""
    licence: str = ""
    data: Data
    prompt: Jinja | None = None
    turns: tuple[Turn, ...] = ()
    system: Jinja | None = None
    chat: bool = True
    few_shot: tuple[dict[str, Any], ...] = ()
    target: Jinja = "{{ answer }}"
    scorer: dict[str, Any]
    sampling: SamplingConfig = SamplingConfig()
    items: ItemCounts = ItemCounts()
    block: Annotated[int, Field(ge=1)] = 32
    path: Path = Field(default=Path(), exclude=True)  # the skill's file, or the config it stands in: for messages

    @field_validator("prompt", "system", "target")
    @classmethod
    def _parses(cls, source: str | None) -> str | None:
        return None if source is None else check_template(source)

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> "Skill":
        if (self.prompt is None) == (not self.turns):
            raise ValueError("expected exactly one of prompt and turns")
        if self.turns and self.turns[-1].role != "user":
            raise ValueError(f"turns: the last turn must be the user's, got {self.turns[-1].role}")
        if self.turns and (self.few_shot or self.system is not None):
            raise ValueError("turns: write the system message and the examples as turns")
        if not self.chat and (self.turns or self.system is not None):
            raise ValueError("chat: false takes a prompt, not turns or a system message")
        return self

    def templates(self) -> list[str]:
        """What is rendered of every row, in that order."""
        asked = [turn.content for turn in self.turns] if self.prompt is None else [self.system, self.prompt]
        return [source for source in (*asked, self.target) if source is not None]

    def make_scorer(self) -> Scorer:
        """The scorer the file names. Raises ConfigError for an unknown type or parameter."""
        return make_scorer(self.scorer, where=f"{self.path}: scorer")

    def make_sampling(self) -> Sampling:
        """The sampling the engine is given."""
        return Sampling(**self.sampling.model_dump())


def load_skill(use: str | Path | Mapping[str, Any], *, folder: Path, name: str | None = None) -> Skill:
    """The skill that a config names.

    `use` is the path of a YAML file (relative to `folder`, the config's own, or to ./evals), the name of a shipped
    skill, a mapping {use: NAME, …overrides} merged over that skill key by key, or a whole skill written inline.
    `name` is what the study calls it; by default the file's own name. Raises ConfigError.
    """
    overrides = dict(use) if isinstance(use, Mapping) else {"use": use}
    data: dict[str, Any] = {}
    path = folder / "(inline)" if name is None else folder / name
    if (wanted := overrides.pop("use", None)) is not None:
        path = _find(str(wanted), folder)
        data = _with_absolute_path(read_yaml(path), path.resolve().parent)
        data.setdefault("name", path.stem)
    data = _merged(data, _with_absolute_path(overrides, folder))
    if name is not None:
        data["name"] = name
    if "data" not in data:
        raise ConfigError(
            "the skill names no data",
            where=str(path),
            hint=f"Name it where the skill is used: {{use: {wanted or 'NAME'}, data: {{path: items.jsonl}}}}.",
        )
    skill = validate(Skill, data, str(path)).model_copy(update={"path": path})
    skill.make_scorer()
    return skill


def _find(use: str, folder: Path) -> Path:
    asked = Path(os.path.expanduser(use))
    if not asked.name:
        raise ConfigError(f"expected the name or the path of a skill, got {use!r}", where=str(folder))
    names = [asked] if asked.suffix in (".yaml", ".yml") else [asked.with_name(f"{asked.name}.yaml"), asked]
    for candidate in (start / name for name in names for start in (folder, Path("evals"), Path())):
        if os.path.isfile(candidate):
            return candidate
    if asked.suffix in (".yaml", ".yml"):
        raise ConfigError("no such skill file", where=use, hint=f"Looked in {folder}, ./evals and the current folder.")
    return find_shipped("evals", use)


def _with_absolute_path(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The mapping with `data.path` made absolute: it is relative to the file it stands in."""
    rows = data.get("data")
    if not isinstance(rows, Mapping) or not isinstance(rows.get("path"), str):
        return dict(data)
    return {**data, "data": {**rows, "path": str((folder / Path(rows["path"]).expanduser()).absolute())}}


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `below`, mapping by mapping. What excludes another key replaces it."""
    result = dict(below)
    for key, value in over.items():
        kept = result.get(key)
        if isinstance(value, Mapping) and isinstance(kept, Mapping):
            changed_kind = key == "scorer" and value.get("type", kept.get("type")) != kept.get("type")
            kept = {} if changed_kind else kept
            result[key] = _merged(_without_rivals(kept, value) if key == "data" else kept, value)
        else:
            result[key] = value
    for one, other in (("prompt", "turns"), ("turns", "prompt")):
        if one in over and other in below and other not in over:
            del result[other]
    return result


def _without_rivals(data: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    rivals: tuple[str, ...] = ()
    if "path" in over:
        rivals = ("hub", "config", "split", "revision")
    elif "hub" in over:
        rivals = ("path", "config", "split", "revision")
    return {key: value for key, value in data.items() if key not in rivals}
