"""The command line: one file a subcommand, each thin. Exit 0 ok, 1 error, 2 usage, 3 a gate or the verdict says no.

A subcommand's file is imported when it is called: a merge does not wait for what a search needs.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from automerge.errors import AutomergeError

INTERRUPTED = 130
# ClickException, of click or, from typer 0.29 on, of the copy that typer carries and does not export.
_USAGE: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

COMMANDS = {  # name → file and function
    "init": ("init", "init"),
    "search": ("search", "search"),
    "check": ("check", "check"),
    "trials": ("trials", "trials"),
    "show": ("show", "show"),
    "export": ("export", "export"),
    "verify": ("verify", "verify"),
    "eval": ("evaluate", "evaluate_models"),
    "compare": ("compare", "compare"),
    "gate": ("gate", "gate"),
    "reweigh": ("reweigh", "reweigh"),
    "report": ("report", "report"),
    "dashboard": ("dashboard", "dashboard"),
    "score": ("score", "score"),
    "merge": ("merge", "merge"),
    "moe": ("moe", "moe"),
}


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these subcommands."""
    app = typer.Typer(
        name="automerge",
        help="Finds merges of fine-tuned language models by search, fenced by gates, proven on held-out items.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        callback=_main,
    )
    for name in names:
        file, function = COMMANDS[name]
        app.command(name)(getattr(importlib.import_module(f"automerge.cli.{file}"), function))
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"automerge {importlib.metadata.version('automerge')}")
        raise typer.Exit


def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.", envvar="AUTOMERGE_DEBUG"),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    os.environ["AUTOMERGE_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Runs the command line. Known errors become one screen on stderr; a traceback comes with --debug only."""
    try:
        asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        app = make_app([asked] if asked in COMMANDS else COMMANDS)
        code = app(standalone_mode=False)
    except _USAGE as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("Interrupted.")
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("AUTOMERGE_DEBUG"):
            raise
        _print_error(error)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(error: Exception) -> None:
    console = Console(stderr=True)
    if isinstance(error, AutomergeError):
        text = Text(error.message)
        if error.where:
            text = Text(f"{error.where}\n", style="bold") + text
        if error.hint:
            text.append(f"\n\n{error.hint}", style="cyan")
        console.print(Panel(text, title=type(error).__name__, title_align="left", border_style="red"))
    else:
        text = Text(
            f"{type(error).__name__}: {error}\n\nThis is a bug. Run again with --debug and report what it prints."
        )
        console.print(Panel(text, title="unexpected error", title_align="left", border_style="red"))
