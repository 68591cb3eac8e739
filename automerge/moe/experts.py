"""The models a mixture is made of, each as something to merge: a checkpoint, an adapter over one, or a recipe.

So every one is found, checked and read as a merge's sources are: the same digests, refusals and adapters' arithmetic.
"""

from pathlib import Path

from automerge.config import locate
from automerge.errors import ConfigError
from automerge.merge.described import read_described
from automerge.merge.mergekit.schema import ModelName
from automerge.merge.models import open_models
from automerge.merge.sources.folder import is_adapter
from automerge.merge.sources.locate import locate as find
from automerge.recipe import Group, make_recipe
from automerge.router.part import Part

NAME = "expert"


def open_base(given: ModelName, folder: Path) -> Part:
    """The model that lends attention, norms, embeddings and tokenizer. Relative paths start at `folder`. Raises
    SourceError."""
    return _open(given, None, folder)


def open_expert(given: ModelName, base: Part, folder: Path) -> Part:
    """A model whose feed-forward part becomes an expert. An adapter by itself is taken over the mixture's base.

    Raises SourceError where it is no fine-tune of the base, ConfigError where it is a recipe of other models.
    """
    part = _open(given, base, folder)
    mine, theirs = part.models.shapes, base.models.shapes
    differing = [name for name, shape in theirs.items() if ".mlp." in name and mine.get(name) != shape]
    if differing:
        raise ConfigError(f"{differing[0]} has another shape in the base", where=part.given)
    return part


def _open(given: ModelName, base: Part | None, folder: Path) -> Part:
    place = locate(given.locator, folder)
    if Path(place).is_file() and not given.lora:
        read = read_described(Path(place), None)
        return Part(str(given), read.recipe, read.models)
    root, source = place, place
    if given.lora:
        source = locate(given.lora_locator, folder)
    elif base is not None:
        root = base.models.base_ref.path
        if is_adapter(find(place)) and base.recipe.sources[0].path != root:
            hint = "Write it as MODEL+ADAPTER, with the full model it was made for."
            raise ConfigError("an adapter by itself, but the mixture's base is none it fits", where=place, hint=hint)
    models = open_models(root, {NAME: source})
    recipe = make_recipe(
        method="passthrough",
        base=models.base_ref,
        sources=models.source_refs,
        groups=(Group((0, models.n_layers), "all", {"scale": {NAME: 1.0}}),),
        options={},
        dtype=models.dtype,
        seed=0,
        tokenizer="base" if base is not None else NAME,
    )
    return Part(str(given), models.sealed(recipe), models)
