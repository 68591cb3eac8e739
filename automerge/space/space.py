"""The search space: which numbers Optuna varies, and the recipe that a set of them stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.distributions import FloatDistribution

from automerge.config import Bounds, ParameterSpace, SearchConfig
from automerge.errors import ConfigError
from automerge.merge.check import check_arity
from automerge.merge.models import Models
from automerge.merge.registry import Method, Parameter, get_method
from automerge.recipe import MODULES, Group, Recipe, Setting, Value, make_recipe
from automerge.space.grid import ALL, Grid, make_grid

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
        """Raises ConfigError for a parameter the method lacks, or a range beyond what the method allows."""
        self.config = config
        self.models = models
        self.method: Method = get_method(config.method)
        check_arity(self.method, len(config.sources))
        self.options = _options(config, self.method)
        self.axes = tuple(_axes(config, self.method, models.n_layers))
        self.distributions: dict[str, FloatDistribution] = {
            axis.name(label): FloatDistribution(*axis.bounds.range)
            for axis in self.axes
            if axis.bounds.range is not None
            for label in axis.grid.labels()
        }
        if not self.distributions:
            raise ConfigError("nothing to search: every parameter is fixed", where="parameters")

    def recipe(self, params: Mapping[str, float]) -> Recipe:
        """The recipe of one point: `params` holds a number for each name in `distributions`."""
        spread = {(a.parameter, a.source): a.grid.spread(_cells(a, params)) for a in self.axes}
        return make_recipe(
            method=self.method.name,
            base=self.models.base_ref,
            sources=tuple(self.models.source_refs),
            groups=_groups(spread, self.models.n_layers),
            options=self.options,
            dtype=self.config.dtype or self.models.dtype,
            seed=self.config.seed,
            tokenizer=self.config.tokenizer,
        )

    def default(self, parameter: str) -> float:
        """What the method takes where nothing is said."""
        return _default(self.method, parameter)

    def uniform(self, values: Mapping[str, Value]) -> dict[str, float] | None:
        """The point where each parameter has one value in all layers and modules; None where that lies outside."""
        params = {}
        for axis in self.axes:
            value = values.get(axis.parameter, _default(self.method, axis.parameter))
            number = value if isinstance(value, float | int) else value[axis.source]
            low, high = axis.bounds.range or (axis.bounds.value, axis.bounds.value)
            if low is None or high is None or not low <= number <= high:
                return None
            if axis.bounds.range is not None:
                params.update({axis.name(label): float(number) for label in axis.grid.labels()})
        return params


def _options(config: SearchConfig, method: Method) -> dict[str, Setting]:
    try:
        return method.option_values(config.options)
    except ConfigError as error:
        raise ConfigError(error.message, where="options", hint=error.hint) from None


def _axes(config: SearchConfig, method: Method, n_layers: int) -> list[Axis]:
    for name in config.parameters:
        method.parameter(name)  # refuses an unknown one, with the near name
    axes = []
    for parameter in method.parameters:
        where = f"parameters.{parameter.name}"
        space = config.parameters.get(parameter.name, ParameterSpace(value=parameter.default))
        groups, modules = space.groups or config.groups, space.modules or config.modules
        grid = make_grid(groups, modules, n_layers, where=where)
        if parameter.scope == "merge" and space.sources:
            raise ConfigError("has one value for the whole merge, not one a source", where=f"{where}.sources")
        for source in [SHARED] if parameter.scope == "merge" else sorted(config.sources):
            bounds = space.bounds(source) or Bounds(value=parameter.default)
            _check_bounds(parameter, bounds, where)
            axes.append(Axis(parameter.name, source, grid, bounds))
    return axes


def _check_bounds(parameter: Parameter, bounds: Bounds, where: str) -> None:
    for number in bounds.range or (bounds.value,):
        if number is not None and not parameter.allows(number):
            raise ConfigError(f"expected {parameter.limits}, got {number:g}", where=where)


def _default(method: Method, name: str) -> float:
    return next(p.default for p in method.parameters if p.name == name)


def _cells(axis: Axis, params: Mapping[str, float]) -> dict[str, float]:
    labels = axis.grid.labels()
    if axis.bounds.value is not None:
        return dict.fromkeys(labels, axis.bounds.value)
    return {label: params[axis.name(label)] for label in labels}


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
