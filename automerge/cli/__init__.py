"""The command line: one file a subcommand, each thin. Exit 0 ok, 1 error, 2 usage, 3 a gate or the verdict says no.

A subcommand's file is imported when it is called: a merge does not wait for what a search needs.
"""

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import typer
from rich.panel import Panel
from rich.text import Text

from automerge import __version__
from automerge.cli.console import make_console
from automerge.errors import AutomergeError, find_page

INTERRUPTED = 130
# ClickException, of click or, from typer 0.29 on, of the copy that typer carries and does not export.
_USAGE: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


@dataclass(frozen=True)
class Command:
    """A subcommand: where it is, and the line that stands for it in the list of them."""

    file: str
    function: str
    about: str


COMMANDS = {
    "init": Command("init", "init", "Inspect models, write a config for them."),
    "check": Command("check", "check", "Find a config's mistakes; say what a search will cost."),
    "search": Command("search", "search", "Search for the best merge and prove it."),
    "trials": Command("trials", "trials", "List what a study has tried."),
    "show": Command("show", "show", "Show one trial: recipe, scores, answers."),
    "report": Command("report", "report", "Write a study as one HTML page."),
    "dashboard": Command("dashboard", "dashboard", "Serve optuna-dashboard on a study."),
    "reweigh": Command("reweigh", "reweigh", "Rank a study by other weights of its skills."),
    "export": Command("export", "export", "Write the merge as a checkpoint, or push it to the hub."),
    "verify": Command("verify", "verify", "Check that an export is what its recipe gives."),
    "eval": Command("evaluate", "evaluate_models", "Score models on skills, or on mt_bench."),
    "compare": Command("compare", "compare", "Compare models item by item, with intervals."),
    "gate": Command("gate", "gate", "Hold a model to another: exit 0, or 3 for no."),
    "score": Command("score", "score", "Score answers that were made elsewhere."),
    "merge": Command("merge", "merge", "Merge by a recipe or mergekit's YAML."),
    "moe": Command("moe", "moe", "Make models the experts of one sparse model."),
}


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these subcommands; the others are named only."""
    app = typer.Typer(
        name="automerge",
        help="Finds merges of fine-tuned language models by search, fenced by gates, proven on held-out items.",
        epilog="Begin with `automerge search`, which needs nothing; with models of your own, `automerge init MODEL…`.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        callback=_main,
    )
    wanted = set(names)
    for name, command in COMMANDS.items():
        found: Callable[..., Any] = _named_only
        if name in wanted:
            found = getattr(importlib.import_module(f"automerge.cli.{command.file}"), command.function)
        app.command(name, short_help=command.about)(found)
    return app


def _named_only() -> None:
    """Stands for a command that is not asked for."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"automerge {__version__}")
        raise typer.Exit


def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.", envvar="AUTOMERGE_DEBUG"),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    os.environ["AUTOMERGE_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Runs the command line. Known errors become one screen on stderr; a traceback comes with --debug only."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to fail
    try:
        asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        app = make_app([asked] if asked in COMMANDS else ())
        code = app(standalone_mode=False)
    except _USAGE as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        make_console(stderr=True).print("Interrupted.")
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("AUTOMERGE_DEBUG"):
            raise
        _print_error(error)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(error: Exception) -> None:
    console = make_console(stderr=True)
    if isinstance(error, AutomergeError):
        text = Text(error.message)
        if error.where:
            text = Text(f"{error.where}\n", style="bold") + text
        if error.hint:
            text.append(f"\n\n{error.hint}", style="cyan")
        if (page := find_page(error.page)) is not None:
            text.append("\n\nMore: ", style="dim").append(f"docs/{error.page}", style=f"dim link file://{page}")
        console.print(Panel(text, title=type(error).__name__, title_align="left", border_style="red"))
    else:
        text = Text(
            f"{type(error).__name__}: {error}\n\nThis is a bug. Run again with --debug and report what it prints."
        )
        console.print(Panel(text, title="unexpected error", title_align="left", border_style="red"))
