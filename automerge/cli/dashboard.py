"""`automerge dashboard`: optuna-dashboard on a study, while it runs or afterwards."""

import importlib.util
import sys
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.opening import open_existing
from automerge.cli.options import Out, Storage, StudyName
from automerge.errors import StudyError, install


def dashboard(
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    host: Annotated[str, typer.Option(help="Where it listens; it has no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
) -> None:
    """Serve optuna-dashboard on a study until Ctrl-C."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise StudyError("optuna-dashboard is not installed", hint=install("dashboard"))
    from optuna_dashboard import run_server

    opened = open_existing(out, study, storage)
    make_console().print(f"{opened.study.study_name}: http://{host}:{port}/  (Ctrl-C ends it)")
    sys.stdout.flush()
    run_server(storage or opened.folder.storage, host=host, port=port)
