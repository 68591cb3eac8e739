"""What must not be lost: a gate's condition and its margin."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from automerge.config.closed import Closed


class Margin(Closed):
    """How much may be lost: absolute, or (`relative`) a share of the reference's score; written 0.02 or 1%."""

    amount: Annotated[float, Field(ge=0, le=1)]
    relative: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str) and data.strip().endswith("%"):
            return {"amount": float(data.strip().removesuffix("%")) / 100, "relative": True}
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"amount": data}
        return data

    def of(self, reference: float) -> float:
        """The margin in score units, given the reference's score."""
        return self.amount * reference if self.relative else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.4g}" if not self.relative else f"{100 * self.amount:.4g}%"


class GateRule(Closed):
    """A condition on one skill: at least `min`, or no worse than a baseline by more than a margin."""

    skill: str
    min: Annotated[float, Field(ge=0, le=1)] | None = None
    no_worse_than: str | None = None
    margin: Margin = Margin(amount=0.0)
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _one_of_both(self) -> "GateRule":
        if (self.min is None) == (self.no_worse_than is None):
            raise ValueError("expected either min or no_worse_than")
        # not whether it was written: a study's kept config spells the 0 out
        if self.min is not None and self.margin.amount:
            raise ValueError("margin goes with no_worse_than; with min, lower min instead")
        return self

    def __str__(self) -> str:
        if self.min is not None:
            return f"{self.skill} ≥ {self.min:.4g}"
        return f"{self.skill} no worse than {self.no_worse_than} (margin {self.margin})"
