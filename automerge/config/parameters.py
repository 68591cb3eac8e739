"""How a method's parameters may vary: bounds, and how layers, modules and sources share them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from automerge.config.closed import Closed, Number, Positive

Modules = Literal["together", "split"]


class Groups(Closed):
    """How layers share a parameter: `whole`, `layers`, `{blocks: N}` equal runs, `{knots: N}` interpolated points."""

    kind: Literal["whole", "layers", "blocks", "knots"]
    count: Positive = 1

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data not in ("whole", "layers"):
                raise ValueError("expected whole, layers, {blocks: N} or {knots: N}")
            return {"kind": data}
        if isinstance(data, dict) and len(data) == 1 and next(iter(data)) in ("blocks", "knots"):
            ((kind, count),) = data.items()
            return {"kind": kind, "count": count}
        if isinstance(data, dict) and "kind" in data:
            return data
        raise ValueError("expected whole, layers, {blocks: N} or {knots: N}")

    @model_validator(mode="after")
    def _enough_knots(self) -> "Groups":
        if self.kind == "knots" and self.count < 2:
            raise ValueError("knots needs at least 2")
        return self


class Bounds(Closed):
    """A number that is fixed (`value`) or varied (`range`: [low, high])."""

    value: Number | None = None
    range: tuple[Number, Number] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": data}
        if isinstance(data, list):
            return {"range": data}
        return data

    @model_validator(mode="after")
    def _one_of_both(self) -> "Bounds":
        if (self.value is None) == (self.range is None):
            raise ValueError("expected a number, or a range [low, high]")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: low must lie below high, got {list(self.range)}")
        return self


class ParameterSpace(Closed):
    """One method parameter: bounds for every source, exceptions by source, and how layers and modules share it."""

    value: Number | None = None
    range: tuple[Number, Number] | None = None
    sources: dict[str, Bounds] = Field(default_factory=dict)
    groups: Groups | None = None
    modules: Modules | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": data}
        return {"range": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _bounded(self) -> "ParameterSpace":
        if self.value is not None or self.range is not None or not self.sources:
            Bounds(value=self.value, range=self.range)
        return self

    def bounds(self, source: str) -> Bounds | None:
        """The bounds for a source; None where neither it nor the parameter as a whole has any."""
        if source in self.sources:
            return self.sources[source]
        if self.value is None and self.range is None:
            return None
        return Bounds(value=self.value, range=self.range)
