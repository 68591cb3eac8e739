"""Whether a recipe makes sense to its method, told before any tensor is read. It knows no models.

Which tensors the groups cover is checked by the merge, which knows the tensors.
"""

from collections.abc import Mapping, Sequence

from automerge.errors import ConfigError, MergeError
from automerge.merge.checksum import DTYPES
from automerge.merge.registry import Method, Parameter, get_method, miscounted, near
from automerge.recipe import MODULES, Group, Recipe, Value

OUTPUT_DTYPES = {name: dtype for dtype, name in DTYPES.items()}


def check_recipe(recipe: Recipe) -> None:
    """Raises ConfigError for anything the method does not know or allow; MergeError where weights sum to nothing."""
    method = get_method(recipe.method)
    names = [source.name for source in recipe.sources]
    if not names:
        raise ConfigError(f"{method.name} needs at least one source, got none")
    if recipe.dtype not in OUTPUT_DTYPES:
        raise ConfigError(f"dtype: expected one of {', '.join(OUTPUT_DTYPES)}, got {recipe.dtype!r}")
    if not recipe.slices:  # a slice names its own sources, see stack.py
        check_arity(method, names)
    options = method.option_values(recipe.options)
    if not recipe.groups:
        raise ConfigError("a recipe needs at least one group", hint="Groups must cover every layer and module.")
    for group in recipe.groups:
        _check_group(method, group, names)
        if method.check is not None:
            by_source = {name: source_values(method, group, name) for name in names}
            try:
                method.check(by_source, merge_values(method, group), options)
            except MergeError as error:
                raise MergeError(error.message, where=group.name, hint=error.hint) from None


def check_arity(method: Method, sources: Sequence[str]) -> None:
    """Raises ConfigError where the method does not take so many sources."""
    if problem := miscounted(method.name, method.sources, "source", sources):
        raise ConfigError(problem, where="sources")


def source_values(method: Method, group: Group, source: str) -> dict[str, float]:
    """One source's values of the per-source parameters, with defaults."""
    values = {}
    for parameter in method.parameters:
        if parameter.scope == "source":
            given = group.values.get(parameter.name, parameter.default)
            values[parameter.name] = given[source] if isinstance(given, Mapping) else given
    return values


def merge_values(method: Method, group: Group) -> dict[str, float]:
    """The per-merge parameters' values, with defaults."""
    values = {}
    for parameter in method.parameters:
        if parameter.scope == "merge":
            given = group.values.get(parameter.name, parameter.default)
            values[parameter.name] = parameter.default if isinstance(given, Mapping) else given
    return values


def _check_group(method: Method, group: Group, sources: list[str]) -> None:
    start, stop = group.layers
    if not 0 <= start < stop:
        raise ConfigError(f"layers: expected 0 ≤ start < stop, got {start} and {stop}", where=group.name)
    if group.modules not in (*MODULES, "all"):
        hint = f"Known: {', '.join(MODULES)}, all."
        raise ConfigError(f"there is no module kind {group.modules!r}", where=group.name, hint=hint)
    for name, value in group.values.items():
        try:
            parameter = method.parameter(name)
        except ConfigError as error:
            raise ConfigError(error.message, where=group.name, hint=error.hint) from None
        numbers = _numbers(parameter, value, sources, group.name)
        for owner, number in numbers.items():
            if not parameter.allows(number):
                whose = f" of {owner}" if owner else ""
                raise ConfigError(f"{name}{whose}: expected {parameter.limits}, got {number:g}", where=group.name)


def _numbers(parameter: Parameter, value: Value, sources: list[str], where: str) -> dict[str, float]:
    if parameter.scope == "merge":
        if isinstance(value, Mapping):
            raise ConfigError(f"{parameter.name}: expected one number, got one per source", where=where)
        return {"": float(value)}
    if not isinstance(value, Mapping):
        hint = f"Give one for each of {', '.join(sources)}."
        raise ConfigError(f"{parameter.name}: expected one number per source, got {value}", where=where, hint=hint)
    for name in value:
        if name not in sources:
            raise ConfigError(f"{parameter.name}: there is no source {name!r}", where=where, hint=near(name, sources))
    missing = [name for name in sources if name not in value]
    if missing:
        raise ConfigError(f"{parameter.name}: no value for {', '.join(missing)}", where=where)
    return {name: float(number) for name, number in value.items()}
