"""The merge methods by name, and what a method declares once: its parameters, options, paper and plan.

Config validation, search spaces, mergekit's YAML and documentation all read this. It knows no method itself: each
registers from its own file in methods/, and the registry is frozen when all are in.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from automerge.errors import ConfigError, nearest
from automerge.merge.view import View, Work
from automerge.recipe import Setting

DIALECTS = ("papers", "mergekit")


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
class Option:
    """A switch (true or false) or a choice among words. `mergekit` is its default in that dialect, if another."""

    name: str
    default: bool | str
    about: str
    choices: tuple[str, ...] = ()
    mergekit: bool | str | None = None

    def allows(self, value: object) -> bool:
        """Whether the value is one of this option's."""
        return value in self.choices if self.choices else isinstance(value, bool)

    @property
    def expected(self) -> str:
        """E.g. `true or false`."""
        return " or ".join(self.choices) if self.choices else "true or false"


@dataclass(frozen=True)
class Method:
    """A merge method. `plan` looks at one tensor and says what is to be computed (plan.py, view.py)."""

    name: str
    about: str  # one line
    paper: str
    parameters: tuple[Parameter, ...]
    plan: Callable[[View], Work]
    options: tuple[Option, ...] = ()
    sources: tuple[int, int | None] = (1, None)  # the fewest and the most it takes
    reads_base: bool = True  # the base is a part of the result; options `on` and `with_base` may take it out
    random: bool = False  # by `drop`, elements are dropped at random: the recipe's seed counts
    # (values by source, values of the merge, options) of one group: raises MergeError for what no single limit can say
    check: Callable[[Mapping[str, Mapping[str, float]], Mapping[str, float], Mapping[str, Setting]], None] | None = None

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name. Raises ConfigError with a near name."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        names = [parameter.name for parameter in self.parameters]
        raise ConfigError(f"{self.name} has no parameter {name!r}", hint=near(name, names))

    def option_values(self, given: Mapping[str, Setting]) -> dict[str, Setting]:
        """Every option's value: what is given, else the dialect's default.

        Raises ConfigError for an option the method lacks, with a near name, or a value it does not allow.
        """
        known = {option.name: option for option in self.options}
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"{self.name} has no option {name!r}", hint=near(name, list(known)))
            if not known[name].allows(value):
                raise ConfigError(f"option {name}: expected {known[name].expected}, got {value!r}")
        mergekit = given.get("dialect") == "mergekit"
        defaults = {
            name: option.mergekit if mergekit and option.mergekit is not None else option.default
            for name, option in known.items()
        }
        return {**defaults, **given}


WEIGHT = Parameter("weight", "source", 1.0, -1000.0, 1000.0, "factor of the source", (-2.0, 2.0))
DROP = Parameter("drop", "source", 0.0, 0.0, 1.0, "share of delta elements dropped at random", (0.0, 0.95), True)
DENSITY = Parameter("density", "source", 1.0, 0.0, 1.0, "share of delta elements kept, the largest", (0.05, 1.0))
LAMBDA = Parameter("lambda", "merge", 1.0, -1000.0, 1000.0, "factor of the merged delta", (0.2, 2.0))

DIALECT = Option("dialect", "papers", "whose semantics, where they differ", DIALECTS)


def miscounted(
    name: str, limits: tuple[int, int | None], noun: str, given: Sequence[str], beside: str = ""
) -> str | None:
    """What is wrong with how many are given: `slerp takes 1 to 2 sources, got 3 (a, b, c)`; None where nothing is.

    `limits`: the fewest and the most. `beside` stands behind the noun.
    """
    fewest, most = limits
    if fewest <= len(given) and (most is None or len(given) <= most):
        return None
    number = f"at least {fewest}" if most is None else f"{fewest}" if fewest == most else f"{fewest} to {most}"
    plural = "" if number.split()[-1] == "1" else "s"
    got = f"{len(given)} ({', '.join(given)})" if given else "none"
    return f"{name} takes {number} {noun}{plural}{beside}, got {got}"


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


def near(name: str, known: Collection[str]) -> str:
    """A hint: the nearest known name, or all of them."""
    close = nearest(name, known)
    return f"Did you mean {close}?" if close else f"Known: {', '.join(known) or 'none'}."
