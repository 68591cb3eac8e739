"""`automerge verify OUT`: merges an export's recipe again, and compares every tensor with what the folder holds."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.options import AsJson
from automerge.errors import ExportError, explained_on
from automerge.export.verify import verify as verify_folder
from automerge.moe.verify import is_mixture, verify_mixture


@explained_on("merge.md")
def verify(
    out: Annotated[Path, typer.Argument(metavar="out", help="An exported folder, or one that `automerge moe` wrote.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Where a model that it was made of lies now; repeat.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Merge an export's sources again, and check that its weights are exactly that."""
    paths = _paths(model or [])
    if not out.is_dir():
        message = "expected a folder, got a file" if out.exists() else "no such folder"
        raise ExportError(message, where=str(out), hint="Name one that `automerge export` or `automerge moe` wrote.")
    mixture = is_mixture(out)
    done = verify_mixture(out, paths) if mixture else verify_folder(out, paths)
    if as_json:
        print(json.dumps({"out": str(out), **asdict(done)}))
        return
    recorded = ", as its provenance.json says" if done.recorded else ""
    make_console().print(
        f"{out}: {done.tensors} tensors, merged again in {done.seconds:.1f} s, are what the folder holds"
        f"{' (the router taken as it is)' if mixture else ''}; checksum {done.checksum}{recorded}",
    )


def _paths(models: list[str]) -> dict[str, str]:
    paths = {}
    for given in models:
        name, equals, path = given.partition("=")
        if not (name and equals and path):
            raise typer.BadParameter(f"expected NAME=PATH, got {given!r}", param_hint="--model")
        paths[name] = path
    return paths
