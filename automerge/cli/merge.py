"""`automerge merge RECIPE OUT`: writes the checkpoint a recipe file describes."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from automerge.cli.opening import AsJson
from automerge.export.checkpoint import write_checkpoint
from automerge.merge.models import models_of
from automerge.recipe import read_recipe


def merge(
    recipe: Annotated[Path, typer.Argument(help="A recipe.json, as an export holds one.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    as_json: AsJson = False,
) -> None:
    """Merge a recipe's models into a checkpoint."""
    read = read_recipe(recipe)
    written = write_checkpoint(read, models_of(read), out, expected_checksum=None)
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "checksum": written.checksum, "bytes": written.bytes, "seconds": written.seconds}
            )
        )
    else:
        Console().print(f"{out}: {written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s, checksum {written.checksum}")
