"""mergekit-moe's YAML: which models become experts, and what a token must look like to be sent to them.

Ours beside it: an expert's `source_model` may be a recipe.json (or mergekit's YAML), whose merge is the expert; and
`skill`, a skill's name or file, whose search items stand for positive prompts.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from automerge.config import Closed, read_yaml, validate
from automerge.merge.mergekit.schema import Dtype, ModelName
from automerge.merge.sparse.family import FAMILIES

Prompt = Annotated[str, Field(min_length=1)]


class Expert(Closed):
    """One expert. `residual_scale` multiplies its output, by way of its down projection."""

    source_model: ModelName
    positive_prompts: tuple[Prompt, ...] = ()
    negative_prompts: tuple[Prompt, ...] = ()
    skill: str | None = None
    residual_scale: Annotated[float, Field(allow_inf_nan=False)] | None = None

    @field_validator("positive_prompts", "negative_prompts", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or ()

    @property
    def has_prompts(self) -> bool:
        """Whether anything says which tokens are its."""
        return bool(self.positive_prompts) or self.skill is not None

    @property
    def asked(self) -> tuple[Any, ...]:
        """All that its router row is made of."""
        return self.positive_prompts, self.negative_prompts, self.skill


class MoeConfig(Closed):
    """A config of mergekit-moe."""

    base_model: ModelName
    experts: Annotated[tuple[Expert, ...], Field(min_length=1)]
    gate_mode: Literal["hidden", "cheap_embed", "random"] = "hidden"
    dtype: Dtype | None = None
    experts_per_token: Annotated[int, Field(ge=1)] = 2
    shared_experts: tuple[Expert, ...] = ()
    architecture: str | None = None

    @field_validator("shared_experts", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or ()

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not any(family.is_called(value) for family in FAMILIES):
            raise ValueError(f"expected one of {', '.join(family.name for family in FAMILIES)}")
        return value

    @model_validator(mode="after")
    def _can_be_routed(self) -> "MoeConfig":
        if self.experts_per_token > len(self.experts):
            raise ValueError(f"experts_per_token: expected at most {len(self.experts)}, the number of experts")
        if self.gate_mode == "random":
            return self
        for number, expert in enumerate(self.experts):
            if not expert.has_prompts:
                raise ValueError(f"experts.{number}: positive_prompts are missing; gate_mode random needs none")
        asked = [expert.asked for expert in self.experts]
        for number, expert in enumerate(self.experts):
            first = asked.index(expert.asked)
            if first != number and self.experts[first].source_model != expert.source_model:
                raise ValueError(f"experts.{number} and experts.{first}: the same prompts; no token tells them apart")
        return self


def moved(config: MoeConfig, place: Callable[[str], str]) -> MoeConfig:
    """The config with every model, and every adapter over one, named by what `place` makes of its name."""

    def model(name: ModelName) -> ModelName:
        return name.model_copy(update={"path": place(name.path), "lora": place(name.lora) if name.lora else ""})

    def experts(found: tuple[Expert, ...]) -> tuple[Expert, ...]:
        return tuple(expert.model_copy(update={"source_model": model(expert.source_model)}) for expert in found)

    changed = {"experts": experts(config.experts), "shared_experts": experts(config.shared_experts)}
    return config.model_copy(update={"base_model": model(config.base_model), **changed})


def read_moe(path: Path) -> MoeConfig:
    """The config in a file. Raises ConfigError listing every mistake in its shape."""
    return validate(MoeConfig, read_yaml(path, variables=False), str(path))  # mergekit-moe knows no variables


def is_moe(path: Path) -> bool:
    """Whether the file is YAML with experts at its top. It is not read as YAML: what it names need not be there yet."""
    if path.suffix.lower() not in (".yml", ".yaml") or not path.is_file():
        return False
    return re.search(r"^experts *:", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) is not None
