"""The merge methods by name, and what a method declares once: its parameters, switches, paper and maths.

Config validation, search spaces and documentation all read this. It knows no method itself: each registers from its
own file in methods/, and the registry is frozen when all are in.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from automerge.errors import ConfigError
from automerge.merge.piece import Piece


@dataclass(frozen=True)
class Parameter:
    """A number of a method. `low` and `high` are hard limits; `suggested` is a sensible range to search."""

    name: str
    scope: Literal["source", "merge"]  # one value a source, or one for the merge
    default: float
    low: float
    high: float
    about: str
    suggested: tuple[float, float]
    below_high: bool = False  # the upper limit itself is excluded

    def allows(self, value: float) -> bool:
        """Whether the value keeps the hard limits."""
        return self.low <= value <= self.high and not (self.below_high and value == self.high)

    @property
    def limits(self) -> str:
        """E.g. `[0, 1)`."""
        return f"[{self.low:g}, {self.high:g}{')' if self.below_high else ']'}"


@dataclass(frozen=True)
class Method:
    """A merge method. `merge` turns one piece of one tensor, in fp32, into its merged values."""

    name: str
    about: str  # one line
    paper: str
    parameters: tuple[Parameter, ...]
    merge: Callable[[Piece], Tensor]
    options: Mapping[str, bool] = field(default_factory=dict)  # switches with their defaults
    thresholds: str | None = None  # the parameter that says which share of a tensor's largest magnitudes is kept

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name. Raises ConfigError with a near name."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        names = [parameter.name for parameter in self.parameters]
        raise ConfigError(f"{self.name} has no parameter {name!r}", hint=near(name, names))


WEIGHT = Parameter("weight", "source", 1.0, -1000.0, 1000.0, "factor of the source", (-2.0, 2.0))
DROP = Parameter("drop", "source", 0.0, 0.0, 1.0, "share of delta elements dropped at random", (0.0, 0.95), True)
DENSITY = Parameter("density", "source", 1.0, 0.0, 1.0, "share of delta elements kept, the largest", (0.05, 1.0))
LAMBDA = Parameter("lambda", "merge", 1.0, -1000.0, 1000.0, "factor of the merged delta", (0.2, 2.0))

_methods: dict[str, Method] = {}
_frozen = False


def register(method: Method) -> Method:
    """Adds a method. Raises ValueError for a second one of that name, or once the registry is frozen."""
    if _frozen:
        raise ValueError(f"the registry is frozen; {method.name} comes too late")
    if method.name in _methods:
        raise ValueError(f"there is a method {method.name} already")
    _methods[method.name] = method
    return method


def freeze() -> None:
    """Called once, when every method is in."""
    global _frozen
    _frozen = True


def method_names() -> tuple[str, ...]:
    """Every method's name, sorted."""
    return tuple(sorted(_methods))


def get_method(name: str) -> Method:
    """The method of that name. Raises ConfigError with a near name."""
    if name not in _methods:
        raise ConfigError(f"there is no merge method {name!r}", hint=near(name, method_names()))
    return _methods[name]


def near(name: str, known: Mapping[str, object] | list[str] | tuple[str, ...]) -> str:
    """A hint: the nearest known name, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known) or 'none'}."
