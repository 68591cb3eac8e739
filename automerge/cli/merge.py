"""`automerge merge RECIPE OUT`: writes the checkpoint that a recipe, or a config of mergekit's, describes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.options import AsJson
from automerge.errors import explained_on
from automerge.export.checkpoint import write_checkpoint
from automerge.export.folder import check_vacant
from automerge.merge.described import read_described


@explained_on("merge.md")
def merge(
    recipe: Annotated[Path, typer.Argument(help="A recipe.json, as an export holds one, or mergekit's YAML.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Of random drops, with mergekit's YAML. Default: 0.")] = None,
    as_json: AsJson = False,
) -> None:
    """Merge a recipe's models, or those of a mergekit config, into a checkpoint."""
    check_vacant(out)
    read = read_described(recipe, seed)
    for note in (*read.notes, *read.models.notes(read.recipe)):
        make_console(stderr=True).print(f"{recipe}: {note}")
    written = write_checkpoint(read.recipe, read.models, out, expected_checksum=None)
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "checksum": written.checksum, "bytes": written.bytes, "seconds": written.seconds}
            )
        )
    else:
        make_console().print(
            f"{out}: {written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s, checksum {written.checksum}"
        )
