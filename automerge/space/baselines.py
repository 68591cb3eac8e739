"""The merges anyone would try first: the base, each source alone, plain average, task arithmetic, DARE at 0.5 and 0.9.

A baseline that is a point of the search space is that point (`params`), and Optuna learns from it; any other stands
apart with a recipe of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from automerge.merge.registry import Method, get_method
from automerge.recipe import Group, Recipe, Value, make_recipe
from automerge.space.space import SearchSpace

# Baselines that a method computes at the point with the same weights and drop rates (other parameters at their
# defaults). For the sign-electing methods that holds where at most one source has a weight.
_SUMS = frozenset({"task_arithmetic", "dare_linear"})
_ELECTING = frozenset({"ties", "dare_ties"})


@dataclass(frozen=True)
class Baseline:
    """`params` is the baseline's point in the search space, None where it lies outside."""

    name: str
    recipe: Recipe
    params: dict[str, float | str] | None


def baselines(space: SearchSpace) -> list[Baseline]:
    """Base first, then the sources by name, then the averages (config.AVERAGES, in that order)."""
    names = [ref.name for ref in space.models.source_refs]
    none = dict.fromkeys(names, 0.0)
    ones = dict.fromkeys(names, 1.0)
    found = [_baseline(space, "base", "task_arithmetic", {"weight": none}, tokenizer="base")]
    for name in names:
        found.append(_baseline(space, name, "linear", {"weight": {**none, name: 1.0}}, tokenizer=name))
    found.append(_baseline(space, "plain_average", "linear", {"weight": dict.fromkeys(names, 1.0 / len(names))}))
    found.append(_baseline(space, "task_arithmetic", "task_arithmetic", {"weight": ones}))
    for drop in (0.5, 0.9):
        values: dict[str, Value] = {"weight": ones, "drop": dict.fromkeys(names, drop)}
        found.append(_baseline(space, f"dare_{drop}", "dare_linear", values))
    return found


def _baseline(
    space: SearchSpace, name: str, method: str, values: Mapping[str, Value], *, tokenizer: str | None = None
) -> Baseline:
    own = tokenizer or space.config.tokenizer
    same = space.models.same_tokenizer(own, space.config.tokenizer)
    for computing in [m for m in space.methods.values() if same and _computes(space, m, name, values)]:
        if (params := space.uniform(computing, values)) is not None:
            return Baseline(name, space.recipe(params), params)
    like = space.recipe(space.middle())
    recipe = make_recipe(
        method=method,
        base=like.base,
        sources=like.sources,
        groups=(Group((0, space.models.n_layers), "all", values),),
        options=get_method(method).option_values({}),
        dtype=like.dtype,
        seed=like.seed,
        tokenizer=own,
    )
    return Baseline(name, space.models.sealed(recipe), None)


def _computes(space: SearchSpace, method: Method, name: str, values: Mapping[str, Value]) -> bool:
    """Whether a method of the space, given these values, computes this baseline's merge."""
    if space.options[method.name] != method.option_values({}) or not set(values) <= {p.name for p in method.parameters}:
        return False
    if method.name in _SUMS:
        return True
    weights = values["weight"]
    single = isinstance(weights, Mapping) and sum(value != 0 for value in weights.values()) == 1
    if method.name in _ELECTING:
        return "drop" not in values and (single or name == "base")
    return method.name == "linear" and (single or name == "plain_average")
