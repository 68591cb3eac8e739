"""The search space: what Optuna varies, and the recipe that a set of its values stands for.

Of several methods the choice is one more parameter. Every parameter of each of them is suggested every time, so that
all trials lie in one space; a recipe takes those of its own method. What sparse models add is in sparse.py.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import CategoricalDistribution, FloatDistribution

from automerge.config import Bounds, ParameterSpace, SearchConfig
from automerge.errors import ConfigError, within
from automerge.merge.check import check_arity
from automerge.merge.models import Models
from automerge.merge.registry import Method, Parameter, get_method
from automerge.recipe import MODULES, Group, Recipe, Setting, Value, make_recipe
from automerge.space.grid import ALL, Grid, make_grid
from automerge.space.sparse import Params, SparseSpace

METHOD = "method"  # the parameter that chooses, where there are several
SHARED = ""  # stands for the source of a parameter that has one value for the whole merge, as lambda


@dataclass(frozen=True)
class Axis:
    """One method parameter of one source (or SHARED): its grid, and its bounds or fixed value."""

    parameter: str
    source: str
    grid: Grid
    bounds: Bounds

    def name(self, label: str) -> str:
        """The Optuna parameter of a cell, e.g. `weight.math.0-9.attention`."""
        return ".".join(part for part in (self.parameter, self.source, label) if part)


class SearchSpace:
    """The bounds of a search config, checked against its method and its base's layers."""

    def __init__(self, config: SearchConfig, models: Models) -> None:
        """Raises ConfigError for a parameter no method has, or a range beyond what a method allows."""
        self.config = config
        self.models = models
        with within(config.file):
            self.methods: dict[str, Method] = {name: get_method(name) for name in config.methods}
            for method in self.methods.values():
                check_arity(method, list(config.sources))
            self.options = _options(config, list(self.methods.values()))
            self.axes = tuple(_axes(config, list(self.methods.values()), models.n_layers))
            self.distributions: dict[str, FloatDistribution | CategoricalDistribution] = {
                axis.name(label): FloatDistribution(*axis.bounds.range)
                for axis in self.axes
                if axis.bounds.range is not None
                for label in axis.grid.labels()
            }
            if len(self.methods) > 1:
                self.distributions[METHOD] = CategoricalDistribution(list(self.methods))
            self.sparse = SparseSpace(config.mixture, models) if config.mixture else None
            if self.sparse:
                self.distributions.update(self.sparse.distributions)
            if not self.distributions:
                raise ConfigError("nothing to search: every parameter is fixed", where="parameters")

    def recipe(self, params: Params) -> Recipe:
        """The recipe of one point: `params` holds a value for each name in `distributions`."""
        method = self.method_of(params)
        own = [axis for axis in self.axes if axis.parameter in _names(method)]
        spread = {(a.parameter, a.source): a.grid.spread(_cells(a, params)) for a in own}
        recipe = make_recipe(
            method=method.name,
            base=self.models.base_ref,
            sources=tuple(self.models.source_refs),
            groups=_groups(spread, self.models.n_layers),
            options=self.options[method.name],
            dtype=self.config.dtype or self.models.dtype,
            seed=self.config.seed,
            tokenizer=self.config.tokenizer,
            mixture=self.sparse.mixture(params) if self.sparse else None,
        )
        return self.models.sealed(recipe)

    def method_of(self, params: Params) -> Method:
        """The method at a point; without a choice there is only one."""
        return self.methods[str(params[METHOD])] if METHOD in params else next(iter(self.methods.values()))

    def default(self, parameter: str) -> float:
        """What a method takes where nothing is said."""
        method = next(method for method in self.methods.values() if parameter in _names(method))
        return method.parameter(parameter).default

    def choice(self, method: str) -> dict[str, float | str]:
        """What is no weight or rate of a point to begin at: the parameter that says the method, where there are
        several; of sparse models the first."""
        chosen: dict[str, float | str] = {METHOD: method} if len(self.methods) > 1 else {}
        return chosen | (self.sparse.start() if self.sparse else {})

    def middle(self) -> dict[str, float | str]:
        """The point half-way along every range, of the first of what is no range."""
        return {
            name: d.choices[0] if isinstance(d, CategoricalDistribution) else (d.low + d.high) / 2
            for name, d in self.distributions.items()
        }

    def uniform(self, method: Method, values: Mapping[str, Value]) -> dict[str, float | str] | None:
        """The method's point where each parameter has one value in all layers and modules; None where that lies
        outside, as every dense merge does in a space of sparse ones. What only other methods have is at its default,
        within its range."""
        if self.sparse:
            return None
        params = self.choice(method.name)
        for axis in self.axes:
            value = values.get(axis.parameter, self.default(axis.parameter))
            number = value if isinstance(value, float | int) else value[axis.source]
            low, high = axis.bounds.range or (axis.bounds.value, axis.bounds.value)
            if low is None or high is None or not low <= number <= high:
                if axis.parameter in _names(method) or low is None or high is None:
                    return None
                number = min(max(number, low), high)
            if axis.bounds.range is not None:
                params.update({axis.name(label): float(number) for label in axis.grid.labels()})
        return params


def _names(method: Method) -> list[str]:
    return [parameter.name for parameter in method.parameters]


def _options(config: SearchConfig, methods: Sequence[Method]) -> dict[str, dict[str, Setting]]:
    """By method: those of the config's that it has. One that none has is refused."""
    known = {option.name for method in methods for option in method.options}
    try:
        return {
            method.name: method.option_values(
                {
                    name: value
                    for name, value in config.options.items()
                    if name not in known or name in {option.name for option in method.options}
                }
            )
            for method in methods
        }
    except ConfigError as error:
        raise ConfigError(error.message, where="options", hint=error.hint) from None


def _parameters(methods: Sequence[Method], given: Collection[str]) -> list[Parameter]:
    """Each of the methods' parameters once. Raises ConfigError for one that means different things, or is of none."""
    found: dict[str, Parameter] = {}
    for method in methods:
        for parameter in method.parameters:
            other = found.setdefault(parameter.name, parameter)
            if other.scope != parameter.scope or (other.default != parameter.default and other.name not in given):
                raise ConfigError(
                    f"{parameter.name} means another thing in {method.name} than in the methods before it",
                    where="method",
                    hint="Search these methods in studies of their own.",
                )
    for name in given:
        if name not in found:
            methods[0].parameter(name)  # refuses it, with the near name
    return list(found.values())


def _axes(config: SearchConfig, methods: Sequence[Method], n_layers: int) -> list[Axis]:
    axes = []
    for parameter in _parameters(methods, config.parameters):
        where = f"parameters.{parameter.name}"
        space = config.parameters.get(parameter.name, ParameterSpace(value=parameter.default))
        groups, modules = space.groups or config.groups, space.modules or config.modules
        grid = make_grid(groups, modules, n_layers, where=where)
        if parameter.scope == "merge" and space.sources:
            raise ConfigError("has one value for the whole merge, not one per source", where=f"{where}.sources")
        for source in [SHARED] if parameter.scope == "merge" else sorted(config.sources):
            bounds = space.bounds(source) or Bounds(value=parameter.default)
            for method in methods:
                if parameter.name in _names(method):
                    _check_bounds(method.parameter(parameter.name), bounds, where)
            axes.append(Axis(parameter.name, source, grid, bounds))
    return axes


def _check_bounds(parameter: Parameter, bounds: Bounds, where: str) -> None:
    for number in bounds.range or (bounds.value,):
        if number is not None and not parameter.allows(number):
            raise ConfigError(f"expected {parameter.limits}, got {number:g}", where=where)


def _cells(axis: Axis, params: Params) -> dict[str, float]:
    labels = axis.grid.labels()
    if axis.bounds.value is not None:
        return dict.fromkeys(labels, axis.bounds.value)
    return {label: float(params[axis.name(label)]) for label in labels}


def _groups(spread: Mapping[tuple[str, str], Callable[[int, str], float]], n_layers: int) -> tuple[Group, ...]:
    """The fewest groups that hold these values: neighbouring layers and modules with equal values are one."""
    runs: list[tuple[int, int, dict[str, dict[str, Value]]]] = []
    for layer in range(n_layers):
        by_module = {module: _values(spread, layer, module) for module in MODULES}
        if all(values == by_module[MODULES[0]] for values in by_module.values()):
            by_module = {ALL: by_module[MODULES[0]]}
        if runs and runs[-1][2] == by_module:
            runs[-1] = (runs[-1][0], layer + 1, by_module)
        else:
            runs.append((layer, layer + 1, by_module))
    return tuple(
        Group((start, stop), module, values) for start, stop, modules in runs for module, values in modules.items()
    )


def _values(spread: Mapping[tuple[str, str], Callable[[int, str], float]], layer: int, module: str) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for (parameter, source), value in spread.items():
        if source == SHARED:
            values[parameter] = value(layer, module)
        else:
            by_source = values.setdefault(parameter, {})
            assert isinstance(by_source, dict)
            by_source[source] = value(layer, module)
    return values
