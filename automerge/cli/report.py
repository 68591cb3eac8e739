"""`automerge report`: the study as one HTML file that opens without a network."""

import json
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.opening import open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.report.page import page
from automerge.study.folder import write_atomically


def report(
    file: Annotated[Path | None, typer.Option("-o", "--output", help="Default: report.html in the folder.")] = None,
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write the study as one HTML file: verdict, scores with intervals, the search, the recipe, sample answers."""
    if file is not None and file.is_dir():
        raise typer.BadParameter(f"-o: expected a file, got the folder {file}")
    opened = open_existing(out, study, storage)
    target = file or opened.folder.path / "report.html"
    text = page(opened.study, opened.config, opened.folder, storage or opened.folder.storage)
    write_atomically(target, text)
    size = target.stat().st_size
    if as_json:
        print(json.dumps({"file": str(target), "bytes": size}))
    else:
        make_console().print(f"{target}: {size / 1e6:.2f} MB", soft_wrap=True)
