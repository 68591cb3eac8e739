"""`automerge merge RECIPE OUT`: writes the checkpoint that a recipe, or a config of mergekit's, describes."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from automerge.cli.options import AsJson
from automerge.errors import ConfigError
from automerge.export.checkpoint import write_checkpoint
from automerge.merge.mergekit.read import Imported, read_mergekit
from automerge.merge.mergekit.schema import is_mergekit
from automerge.merge.models import models_of
from automerge.recipe import read_recipe


def merge(
    recipe: Annotated[Path, typer.Argument(help="A recipe.json, as an export holds one, or mergekit's YAML.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    seed: Annotated[int | None, typer.Option(help="Of random drops, with mergekit's YAML. Default: 0.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge a recipe's models, or those of a mergekit config, into a checkpoint."""
    read = _read(recipe, seed)
    for note in read.notes:
        Console(stderr=True).print(f"{recipe}: {note}", highlight=False, markup=False)
    written = write_checkpoint(read.recipe, read.models, out, expected_checksum=None)
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "checksum": written.checksum, "bytes": written.bytes, "seconds": written.seconds}
            )
        )
    else:
        Console().print(f"{out}: {written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s, checksum {written.checksum}")


def _read(path: Path, seed: int | None) -> Imported:
    if is_mergekit(path):
        return read_mergekit(path, seed=seed or 0)
    recipe = read_recipe(path)
    if seed is not None:
        raise ConfigError(f"--seed is for mergekit's YAML; this recipe's seed is {recipe.seed}", where=str(path))
    return Imported(recipe, models_of(recipe), ())
