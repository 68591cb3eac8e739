"""The point of a space that is nearest to a merge found elsewhere: a good coarse point starts the finer search."""

from collections.abc import Mapping
from statistics import fmean

from automerge.recipe import MODULES, Recipe
from automerge.space.grid import ALL
from automerge.space.space import SHARED, SearchSpace


def nearest(space: SearchSpace, recipe: Recipe) -> dict[str, float | str]:
    """A value for each name in `space.distributions`: the mean of what the recipe has in the cell's layers and
    modules, within the cell's bounds. Where the recipe says nothing of a parameter it is the method's default."""
    method = recipe.method if recipe.method in space.methods else next(iter(space.methods))
    point = space.choice(method)
    if space.sparse and recipe.mixture:
        point |= space.sparse.nearest(recipe.mixture)
    for axis in space.axes:
        if axis.bounds.range is None:
            continue
        low, high = axis.bounds.range
        for label, layers, module in axis.grid.cells():
            kinds = MODULES if module == ALL else (module,)
            found = [_value(recipe, axis.parameter, axis.source, layer, kind) for layer in layers for kind in kinds]
            known = [value for value in found if value is not None]
            value = space.default(axis.parameter)
            if known:  # the mean of equal numbers may differ from them in the last digit
                value = known[0] if len(set(known)) == 1 else fmean(known)
            point[axis.name(label)] = min(max(value, low), high)
    return point


def _value(recipe: Recipe, parameter: str, source: str, layer: int, module: str) -> float | None:
    for group in recipe.groups:
        if group.layers[0] <= layer < group.layers[1] and group.modules in (ALL, module) and not group.tensors:
            value = group.values.get(parameter)
            if isinstance(value, Mapping):
                return value.get(source)
            return value if source == SHARED else None
    return None
