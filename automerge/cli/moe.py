"""`automerge moe CONFIG OUT`: writes the mixture of experts that a config of mergekit-moe's describes."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from automerge.cli.console import make_console
from automerge.cli.options import AsJson
from automerge.errors import explained_on
from automerge.moe import open_mixture, write_mixture
from automerge.moe.config import read_moe
from automerge.router.gates import closeness


@explained_on("moe.md")
def moe(
    config: Annotated[Path, typer.Argument(help="mergekit-moe's YAML: base_model, experts, gate_mode.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    seed: Annotated[int, typer.Option(min=0, help="Of random gates, and of skills' items.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Put models together as the experts of one sparse model."""
    asked = read_moe(config)
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading models", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, description="asking the base", completed=done, total=total)

        mixture = open_mixture(asked, config.resolve().parent, seed=seed, tell=tell, where=str(config))
        written = write_mixture(
            mixture,
            config.read_text(encoding="utf-8"),
            out,
            progress=lambda line: progress.update(task, description=line, completed=0, total=None),
        )
    cosine = closeness(mixture.rows[:, : len(asked.experts)])
    told = {
        "out": str(out),
        "architecture": mixture.family.architecture,
        "checksum": written.checksum,
        "parameters": mixture.parameters,
        "active": mixture.active,
        "bytes": written.bytes,
        "seconds": written.seconds,
        "closest_gates": cosine,
    }
    if as_json:
        print(json.dumps(told))
        return
    console = make_console()
    console.print(
        f"{out}: {mixture.family.architecture}, {mixture.parameters / 1e6:.1f} M parameters, "
        f"{mixture.active / 1e6:.1f} M for a token, {written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s, "
        f"checksum {written.checksum}",
    )
    console.print(
        f"router: the two most alike experts of a layer have a cosine of {cosine:.3f} (mean over layers; 1: no token "
        "tells them apart)",
    )
