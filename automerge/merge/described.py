"""A file that describes a merge, our recipe.json or mergekit's YAML, as a recipe with its open models."""

from pathlib import Path

from automerge.errors import ConfigError, within
from automerge.merge.check import check_recipe
from automerge.merge.mergekit.read import Imported, read_mergekit
from automerge.merge.mergekit.schema import is_mergekit
from automerge.merge.models import models_of
from automerge.recipe import read_recipe


def read_described(path: Path, seed: int | None) -> Imported:
    """`seed` is of mergekit's random drops (None: 0). Raises ConfigError where a recipe, which has one, is given
    another; and as opening models does."""
    if path.is_dir():
        held = path / "recipe.json"
        hint = f"Name its recipe: {held}" if held.is_file() else "Name a recipe.json, or mergekit's YAML."
        raise ConfigError("is a folder, not a recipe", where=str(path), hint=hint)
    if is_mergekit(path):
        return read_mergekit(path, seed=seed or 0)
    recipe = read_recipe(path)
    if seed is not None:
        raise ConfigError(f"--seed is for mergekit's YAML; this recipe's seed is {recipe.seed}", where=str(path))
    with within(str(path)):
        check_recipe(recipe)
    return Imported(recipe, models_of(recipe), ())
