"""Sparse models in place of dense ones: experts, their router, and what of both varies."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from automerge.config.closed import Closed, Positive
from automerge.config.parameters import Bounds


class RouterPrompts(Closed):
    """What a token must look like to be sent to an expert: prompts, or a skill (its name alone, or `skill`), whose
    search items stand for positive ones."""

    skill: str | None = None
    positive_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    negative_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        return {"skill": data} if isinstance(data, str) else data or {}


class MixtureConfig(Closed):
    """Sparse models in place of dense ones. `experts` are the models to choose from, `num_experts` of them a candidate
    (all, if nothing is said); every token passes the one that is `shared_expert`. Attention, and all else but the
    feed-forward parts, is the dense merge's. Of several numbers, and of a range of temperatures, the search chooses.
    Keys that mergekit-moe has mean what they mean there."""

    experts: Annotated[dict[str, RouterPrompts], Field(min_length=2)]
    num_experts: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    experts_per_token: Positive | Annotated[list[Positive], Field(min_length=1)] = 2
    temperature: Bounds = Bounds(value=1.0)
    gate_mode: Literal["hidden", "cheap_embed", "random"] = "hidden"
    shared_expert: str = ""
    architecture: str = ""

    @property
    def choices(self) -> list[str]:
        """The models to choose from."""
        return [name for name in self.experts if name != self.shared_expert]

    @property
    def sizes(self) -> list[int]:
        """Numbers of experts, rising."""
        given = len(self.choices) if self.num_experts is None else self.num_experts
        return sorted({given} if isinstance(given, int) else set(given))

    @property
    def per_token(self) -> list[int]:
        """Numbers of experts a token, rising."""
        given = self.experts_per_token
        return sorted({given} if isinstance(given, int) else set(given))

    @model_validator(mode="after")
    def _possible(self) -> "MixtureConfig":
        if self.shared_expert and self.shared_expert not in self.experts:
            raise ValueError("shared_expert: expected one of experts, whose prompts its own gate is made of")
        if self.sizes[-1] > len(self.choices):
            raise ValueError(f"num_experts: expected at most {len(self.choices)}, the number of experts to choose from")
        if self.per_token[-1] > self.sizes[0]:
            raise ValueError(f"experts_per_token: expected at most {self.sizes[0]}, the smallest of num_experts")
        if (self.temperature.range or (self.temperature.value or 0.0,))[0] <= 0:
            raise ValueError("temperature: expected numbers above 0")
        if self.gate_mode == "random":
            return self
        asked = {name: (one.skill, one.positive_prompts, one.negative_prompts) for name, one in self.experts.items()}
        for name, one in self.experts.items():
            if one.skill is None and not one.positive_prompts:
                raise ValueError(f"experts.{name}: positive_prompts or a skill is missing; gate_mode random needs none")
            if (first := next(other for other in asked if asked[other] == asked[name])) != name:
                raise ValueError(f"experts.{name} and experts.{first}: the same prompts; no token tells them apart")
        return self
