"""`automerge verify OUT`: merges an export's recipe again, and compares every tensor with what the folder holds."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from automerge.cli.options import AsJson
from automerge.errors import ConfigError
from automerge.export.verify import verify as verify_folder


def verify(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="An exported folder, with its recipe.json.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Where a model of the recipe lies now; repeat.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge an export's sources again, and check that its weights are exactly that."""
    done = verify_folder(out, _paths(model or []))
    if as_json:
        print(json.dumps({"out": str(out), **asdict(done)}))
        return
    recorded = ", as its provenance.json says" if done.recorded else ""
    Console().print(
        f"{out}: {done.tensors} tensors, merged again in {done.seconds:.1f} s, are what the folder holds; "
        f"checksum {done.checksum}{recorded}",
        highlight=False,
    )


def _paths(models: list[str]) -> dict[str, str]:
    paths = {}
    for given in models:
        name, equals, path = given.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"--model: expected NAME=PATH, got {given!r}")
        paths[name] = path
    return paths
