"""Every method's recipes over a family of models, made from what the method declares. It knows no method by name."""

import random

from automerge.errors import AutomergeError
from automerge.merge import Models, check_recipe, get_method
from automerge.merge.registry import Option, Parameter
from automerge.recipe import Group, Recipe, Setting, Value, make_recipe


def recipes(models: Models, method: str, dtype: str, seed: int) -> list[Recipe]:
    """One recipe for each value of each option (the other options at their defaults), parameters drawn at random."""
    declared = get_method(method)
    choices: list[dict[str, Setting]] = [{}]
    for option in declared.options:
        choices += [{option.name: value} for value in _values(option) if value != option.default]
    draw = random.Random(f"{method}{seed}")
    return [_allowed(models, method, options, dtype, draw, seed) for options in choices]


def _allowed(
    models: Models, method: str, options: dict[str, Setting], dtype: str, draw: random.Random, seed: int
) -> Recipe:
    """The first of a hundred draws that the method's own check allows; some options are for mergekit's dialect only."""
    for _ in range(50):
        for more in ({}, {"dialect": "mergekit"}):
            recipe = _recipe(models, method, options | more, dtype, draw, seed)
            try:
                check_recipe(recipe)
            except AutomergeError:
                continue
            return recipe
    raise AssertionError(f"{method} allows nothing with {options}")


def _values(option: Option) -> tuple[Setting, ...]:
    return option.choices or (True, False)


def _recipe(
    models: Models, method: str, options: dict[str, Setting], dtype: str, draw: random.Random, seed: int
) -> Recipe:
    declared = get_method(method)
    most = declared.sources[1] or len(models.source_refs)
    sources = models.source_refs[:most]
    groups = []
    for layer in range(models.n_layers):
        values: dict[str, Value] = {}
        for parameter in declared.parameters:
            if parameter.scope == "merge":
                values[parameter.name] = _number(parameter, draw)
            else:
                values[parameter.name] = {ref.name: _number(parameter, draw) for ref in sources}
        groups.append(Group((layer, layer + 1), "all", values))
    return make_recipe(
        method=method,
        base=models.base_ref,
        sources=sources,
        groups=tuple(groups),
        options=options,
        dtype=dtype,
        seed=seed,
    )


def _number(parameter: Parameter, draw: random.Random) -> float:
    low, high = parameter.suggested
    return float(f"{draw.uniform(low, high):.3g}")
