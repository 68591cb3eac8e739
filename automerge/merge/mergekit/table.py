"""mergekit's methods and their parameters, and what each is called here: the one place that knows both.

A number of mergekit's is a parameter of ours of the same name, or what COMPLEMENTS says; a switch is an option. What is
written here of mergekit 0.1.5: who reads a parameter, its default, whether it must be given, and what the base is to
the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from automerge.errors import ConfigError
from automerge.merge.registry import Method, get_method, method_names, near
from automerge.recipe import Setting

Role = Literal["base", "input", "optional"]  # θ; a model like the others; θ where base_model is given


@dataclass(frozen=True)
class Theirs:
    """A parameter of mergekit's. `per_model`: read from a model's own `parameters` as well, and one value a model.

    `default` None: it must be given. `unused`: mergekit reads it and does nothing with it.
    """

    name: str
    default: float | bool | None
    per_model: bool = False
    unused: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return isinstance(self.default, int) and not isinstance(self.default, bool)


@dataclass(frozen=True)
class Known:
    """A method as mergekit has it. `models`: fewest and most, the base not counted unless it is an input."""

    parameters: tuple[Theirs, ...]
    role: Role
    models: tuple[int, int | None] = (1, None)

    def parameter(self, name: str) -> Theirs | None:
        """The parameter of that name."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


@dataclass(frozen=True)
class Ours:
    """Where a number of mergekit's goes: a parameter of one value a source, or one for the merge.

    `complement`: ours is 1 − theirs.
    """

    scope: Literal["source", "merge"]
    name: str
    complement: bool = False

    def turned(self, value: float) -> float:
        """Theirs from ours or ours from theirs, as decimal numbers: 1 − 0.3 is 0.7."""
        return float(1 - Decimal(repr(value))) if self.complement else value


def _arithmetic(normalize: bool, rescale: bool, *more: Theirs, unused: tuple[str, ...] = ()) -> Known:
    shared = (
        Theirs("weight", None, per_model=True),
        Theirs("density", 1.0, per_model=True, unused="density" in unused),
        Theirs("normalize", normalize),
        Theirs("lambda", 1.0),
        Theirs("rescale", rescale, unused="rescale" in unused),
        Theirs("int8_mask", False, unused=True),
    )
    return Known((*shared, *more), "base")


_WEIGHT = Theirs("weight", None, per_model=True)
_EPSILON = Theirs("epsilon", 0.15, per_model=True)
_GAMMA = Theirs("gamma", 0.01, per_model=True)

KNOWN: dict[str, Known] = {
    "linear": Known((_WEIGHT, Theirs("normalize", True)), "input"),
    "slerp": Known((Theirs("t", None),), "base", (1, 1)),
    "nuslerp": Known((_WEIGHT, Theirs("nuslerp_row_wise", False), Theirs("nuslerp_flatten", True)), "optional", (2, 2)),
    "multislerp": Known((_WEIGHT, Theirs("normalize_weights", True), Theirs("eps", 1e-8)), "optional"),
    "karcher": Known((Theirs("max_iter", 10), Theirs("tol", 1e-5)), "input"),
    "task_arithmetic": _arithmetic(False, False, unused=("density", "rescale")),
    "ties": _arithmetic(True, False),
    "dare_linear": _arithmetic(False, True),
    "dare_ties": _arithmetic(False, True),
    "della": _arithmetic(True, True, _EPSILON),
    "della_linear": _arithmetic(False, True, _EPSILON),
    "breadcrumbs": _arithmetic(False, False, _GAMMA),
    "breadcrumbs_ties": _arithmetic(False, False, _GAMMA),
    "sce": Known((Theirs("select_topk", 1.0), Theirs("int8_mask", False, unused=True)), "base"),
    "ram": Known((Theirs("epsilon", 1e-5),), "base"),
    "ramplus_tl": Known((Theirs("r", 0.1), Theirs("alpha", 0.2), Theirs("epsilon", 1e-5)), "base"),
    "model_stock": Known((Theirs("filter_wise", False),), "base", (2, None)),
    "nearswap": Known((Theirs("t", None),), "base", (1, 1)),
    "arcee_fusion": Known((), "base", (1, 1)),
    "passthrough": Known((Theirs("scale", 1.0, per_model=True),), "input"),
}

SWITCHES = {"normalize_weights": "normalize"}  # switches that are an option of another name here
COMPLEMENTS = {"density": "drop"}  # where the method here has the other
ON = "on"  # our option: whether task vectors or weights are merged. mergekit goes by whether there is a base_model


def known_method(name: str, where: str) -> tuple[Method, Known]:
    """A method that both have. Raises ConfigError with a near name."""
    shared = [method for method in method_names() if method in KNOWN]
    if name not in shared:
        what = "mergekit has none of that name" if name not in KNOWN else "it is not among the methods here"
        if name in method_names():
            hint = f"It is a method of automerge's alone. Both have: {', '.join(shared)}."
        else:
            hint = near(name, shared)
        raise ConfigError(f"merge_method {name!r}: {what}", where=where, hint=hint)
    return get_method(name), KNOWN[name]


def ours(method: Method, theirs: str) -> Ours | None:
    """Where a number of mergekit's goes; None where the method here has nothing like it."""
    scopes = {parameter.name: parameter.scope for parameter in method.parameters}
    if theirs in scopes:
        return Ours(scopes[theirs], theirs)
    turned = COMPLEMENTS.get(theirs)
    return Ours(scopes[turned], turned, complement=True) if turned in scopes else None


def options_of(method: Method, switches: Mapping[str, bool], *, theta: bool) -> dict[str, Setting]:
    """Our options from mergekit's switches. `theta`: whether the base is θ. Raises ConfigError for a switch that the
    method here lacks and that is not at its default."""
    names = {option.name for option in method.options}
    options: dict[str, Setting] = {}
    if "dialect" in names:
        options["dialect"] = "mergekit"
    if ON in names:
        options[ON] = "delta" if theta else "weights"
    given = dict(switches)
    if method.name == "nuslerp":
        flat, columns = given.pop("nuslerp_flatten", True), given.pop("nuslerp_row_wise", False)
        options["vectors"] = "tensor" if flat else "columns" if columns else "rows"
    for theirs, value in given.items():
        name = SWITCHES.get(theirs, theirs)
        if name in names:
            options[name] = value
        elif value != getattr(KNOWN[method.name].parameter(theirs), "default", None):
            raise ConfigError(f"{theirs}: {str(value).lower()} is not supported for {method.name}")
    return options


def switches_of(method: Method, options: Mapping[str, Setting]) -> dict[str, bool]:
    """mergekit's switches from our options' values. Raises ConfigError, naming the option, for one it has not."""
    switches: dict[str, bool] = {}
    back = {name: theirs for theirs, name in SWITCHES.items()}
    for name, value in method.option_values(options).items():
        theirs = back[name] if back.get(name) in _names(method) else name
        if name in ("dialect", ON):
            continue
        if name == "vectors":
            switches |= {"nuslerp_flatten": value == "tensor", "nuslerp_row_wise": value == "columns"}
        elif theirs in _names(method):
            switches[theirs] = bool(value)
        elif value != next(option.default for option in method.options if option.name == name):
            raise ConfigError(f"mergekit's {method.name} has nothing like the option {name}: {value}")
    return switches


def _names(method: Method) -> list[str]:
    return [parameter.name for parameter in KNOWN[method.name].parameters]
