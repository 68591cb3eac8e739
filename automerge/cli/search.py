"""`automerge search`: searches, proves, and says what to do next. Killed or interrupted, the same command goes on."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.console import Console

from automerge.cli.console import make_console
from automerge.cli.live import LiveScreen, PlainLines, Screen
from automerge.cli.opening import open_config, study_folder
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.config import STUDY_NAME, is_study_name
from automerge.gate.verdict import Verdict
from automerge.report.commands import export_command
from automerge.report.tables import difference_table, gate_lines, verdict_line, verdict_table
from automerge.study.events import Block, Event
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.session import make_plan, run_search

INTERRUPTED = 130
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_budget(text: str) -> Budget:
    """`50` is trials in the study in all, baselines among them; `90s`, `45m`, `8h` is time spent on them."""
    match = re.fullmatch(r"(\d+)([smhd]?)", text.strip())
    if not match or int(match[1]) == 0:
        raise typer.BadParameter(f"expected trials such as 50, or time such as 45m, got {text!r}")
    if match[2]:
        return Budget(seconds=float(int(match[1]) * _UNITS[match[2]]))
    return Budget(trials=int(match[1]))


def search(
    config: Annotated[
        str | None, typer.Argument(help="A search space: a YAML file, or the name of a shipped one.")
    ] = None,
    budget: Annotated[str, typer.Option(metavar="N|TIME", help="Trials in all (50), or time (45m).")] = "50",
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    engine: Annotated[
        Literal["auto", "transformers", "vllm"] | None, typer.Option(help="What serves. Default: the config's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of masks, items and proposals. Default: the config's.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Engines, each trying a merge at a time.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Have them on a Ray cluster (auto, or HOST:PORT), not here.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Search for the best merge, prove it on held-out items. Run again to go on. Exit 0 promoted, 3 not."""
    spend = parse_budget(budget)
    if study is not None and not is_study_name(study):
        raise typer.BadParameter(f"expected {STUDY_NAME}, got {study!r}", param_hint="--study")
    loaded = open_config(config, study=study, seed=seed, engine=engine)
    folder = study_folder(out, loaded.name)
    console = make_console(stderr=as_json)
    with console.status("checking config, models and items"):
        plan = make_plan(loaded)
    kind = LiveScreen if console.is_terminal else PlainLines
    screen: Screen = kind(plan, spend, console, workers)
    interrupt = Interrupt()

    def listen(event: Event) -> None:
        screen.listen(event)
        if isinstance(event, Block):
            interrupt.stop_if_asked()

    try:
        with interrupt.caught(), screen:
            verdict = run_search(plan, folder, spend, listen, storage=storage, workers=workers, ray=ray)
    except KeyboardInterrupt:
        again = shlex.join(["automerge", *sys.argv[1:]])
        console.print("Stopped; what was scored is kept. Go on with the same command:")
        console.print(f"  {again}", style="bold", soft_wrap=True)
        return INTERRUPTED
    if as_json:
        print(json.dumps({"folder": str(folder.path), **asdict(verdict)}))
    else:
        conclude(console, verdict, folder, storage or folder.storage, named=out is not None)
    return 0 if verdict.outcome == "PROMOTED" else 3


class Interrupt:
    """The first Ctrl-C (or SIGTERM) lets the block of items in the engine finish; the second stops at once."""

    def __init__(self) -> None:
        self._asked = False

    def stop_if_asked(self) -> None:
        """Called between blocks. Raises KeyboardInterrupt."""
        if self._asked:
            raise KeyboardInterrupt

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Takes the signals over for a while."""

        def ask(number: int, frame: object) -> None:
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True
            # Not through rich: a signal may come while it writes, and its buffers cannot be entered twice.
            os.write(2, b"\nStopping after this block of items. Once more stops at once.\n")

        old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def conclude(console: Console, verdict: Verdict, folder: StudyFolder, storage: str, *, named: bool) -> None:
    """Prints the verdict: models on held-out items, differences, gates, the outcome, and the next command, which names
    the folder where the user did."""
    console.print()
    console.print(verdict_table(verdict))
    differences = difference_table(verdict)
    if differences is not None:
        console.print()
        console.print(differences)
    leading = verdict.leading
    for line in gate_lines(leading.gates) if leading else []:
        console.print(line)
    console.print()
    console.print(verdict_line(verdict))
    if leading is None:
        return
    promoted = verdict.outcome == "PROMOTED"
    console.print("Write it out:" if promoted else "Nothing was promoted. To write a candidate out all the same:")
    command = export_command(None if promoted else leading.name, folder, storage, named=named)
    console.print(f"  {command}", style="bold", soft_wrap=True)
