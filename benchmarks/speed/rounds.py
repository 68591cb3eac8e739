"""Rounds in which everything that is compared takes turns, the machine's description, and tables of the results."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A row's entry `key` under a heading; `form` is a format specification for numbers."""

    key: str
    heading: str
    form: str = ""

    def cell(self, row: Row) -> str:
        """The entry as text; empty where the row has none."""
        value = row.get(self.key)
        return "" if value is None else format(value, self.form) if isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Section:
    """What a section found. `about` says what was timed; `extra` is for the JSON alone."""

    title: str
    about: str
    columns: tuple[Column, ...]
    rows: list[Row]
    extra: Row


def interleaved(
    calls: Mapping[str, Callable[[], float | None]], rounds: int, *, mixed: bool = False
) -> dict[str, list[float]]:
    """Seconds of every call in each round, all calls taking turns; after one round that is not counted.

    A call that returns a number has measured itself. `mixed`: each round in another order (the same in every run), for
    a call pays for what the one before it left in the caches to be written back.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        order = list(calls)
        if mixed:
            random.Random(number).shuffle(order)
        for name in order:
            call = calls[name]
            begun = time.perf_counter()
            own = call()
            seconds = time.perf_counter() - begun if own is None else own
            if number:
                found[name].append(seconds)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """By name."""
    return {name: statistics.median(values) for name, values in found.items()}


def on_threads(threads: int, call: Callable[[], None]) -> Callable[[], None]:
    """The call, with torch's number of threads set before it."""

    def with_threads() -> None:
        torch.set_num_threads(threads)
        call()

    return with_threads


def judge(row: Row, key: str, aim: float | None, *, most: bool = False) -> Row:
    """The row with its aim, and whether the entry reaches it (`most`: stays under it)."""
    if aim is not None:
        row["aim"] = aim
        row["met"] = "yes" if (row[key] <= aim if most else row[key] >= aim) else "no"
    return row


def load() -> float:
    """The one-minute load average, 0 where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def machine() -> Row:
    """What the figures depend on."""
    packages = {name: version(name) for name in ("torch", "numba", "numpy")}
    return {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def show(section: Section) -> None:
    """Prints the table."""
    table = Table(title=section.title, title_justify="left")
    for number, column in enumerate(section.columns):
        table.add_column(column.heading, justify="right" if number else "left")
    for row in section.rows:
        table.add_row(*(column.cell(row) for column in section.columns))
    Console().print(table)
    Console().print(section.about, highlight=False, markup=False)


def markdown(section: Row) -> str:
    """A section, as the JSON holds it, as a table of a Markdown file."""
    columns = [Column(*column) for column in section["columns"]]
    head = ["| " + " | ".join(column.heading for column in columns) + " |", "|---" * len(columns) + "|"]
    rows = ["| " + " | ".join(column.cell(row) for column in columns) + " |" for row in section["rows"]]
    about = f"{section['about']} Load of the machine before: {section['load']}."
    measured = " · ".join(f"{key} {value}" for key, value in section["machine"].items())
    return "\n".join([f"## {section['title']}", "", about, "", f"On: {measured}.", "", *head, *rows])


def _cpu() -> str:
    with_models = Path("/proc/cpuinfo")
    if with_models.is_file():
        for line in with_models.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
