"""A file that describes a merge, our recipe.json or mergekit's YAML, as a recipe with its open models."""

from pathlib import Path

from automerge.errors import ConfigError
from automerge.merge.mergekit.read import Imported, read_mergekit
from automerge.merge.mergekit.schema import is_mergekit
from automerge.merge.models import models_of
from automerge.recipe import read_recipe


def read_described(path: Path, seed: int | None) -> Imported:
    """`seed` is of mergekit's random drops (None: 0). Raises ConfigError where a recipe, which has one, is given
    another; and as opening models does."""
    if is_mergekit(path):
        return read_mergekit(path, seed=seed or 0)
    recipe = read_recipe(path)
    if seed is not None:
        raise ConfigError(f"--seed is for mergekit's YAML; this recipe's seed is {recipe.seed}", where=str(path))
    return Imported(recipe, models_of(recipe), ())
