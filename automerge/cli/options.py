"""The options that several subcommands take. It imports nothing that is slow."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option("--out", help="The study's folder. Default: results/<study>.")]
StudyName = Annotated[str | None, typer.Option("--study", help="The study's name. Default: the config's.")]
Storage = Annotated[str | None, typer.Option("--storage", help="An Optuna storage URL. Default: SQLite in the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
