"""`automerge init MODEL…`: looks at models, and writes a commented config that is ready to run."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from automerge.cli.console import make_console
from automerge.cli.options import AsJson
from automerge.config import find_shipped, load_search
from automerge.errors import ConfigError
from automerge.files import write_whole
from automerge.merge.family import Family, family_of
from automerge.report.tables import plain_table

GUESSES = (  # a word in a source's name → the skill it is probably for
    (r"math|gsm|metamath|numina|reason", "math", "gsm8k"),
    (r"cod|program|python|dev|sql", "coding", "mbpp"),
    (r"", "instructions", "constraints"),
)
FENCED = "instructions"  # its items are shipped, so it needs no download


def init(
    models: Annotated[list[str], typer.Argument(help="Fine-tunes and adapters of one base, and the base itself.")],
    base: Annotated[
        str | None, typer.Option(help="The base; default: found among the models, or by an adapter.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write; it must not be there.")] = Path(
        "automerge.yaml"
    ),
    as_json: AsJson = False,
) -> None:
    """Inspect models and write a config for them: sources, a space of fitting size, skills and gates."""
    if output.exists():
        raise ConfigError("there is a file of that name", where=str(output), hint="Name another with -o, or move it.")
    console = make_console(stderr=True)
    with console.status("looking at the models"):
        family = family_of(models, base)
    skills = _skills(family)
    text = _config(family, skills, output)
    try:
        write_whole(output, text)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise ConfigError(message, where=str(output), hint="Name another with -o.") from error
    load_search(str(output))  # what init writes is valid, or init is wrong
    if as_json:
        print(json.dumps({"file": str(output), **family.to_json()}))
        return
    out = make_console()
    out.print(_table(family))
    for line in family.remarks():
        out.print(line)
    out.print(f"\nWrote {output}. Next:\n")
    out.print(f"  automerge check {output}\n  automerge search {output} --budget 50", style="bold")


def _skills(family: Family) -> dict[str, str]:
    """Name in the study → shipped skill: a guess about each source, and always one to be fenced."""
    found: dict[str, str] = {}
    for source in family.sources:
        for word, name, skill in GUESSES:
            if re.search(word, source.lower()):
                found.setdefault(name, skill)
                break
    found.setdefault(FENCED, "constraints")
    return found


def _config(family: Family, skills: dict[str, str], output: Path) -> str:
    gained = [name for name in skills if name != FENCED] or [FENCED]
    fenced = [name for name in skills if name not in gained]
    width = max(map(len, [*family.sources, *skills]))
    dimensions = 2 * len(family.sources)
    lines = [
        f"# {', '.join(family.sources)} over one base. Every key: docs/search-spaces.md; skills: docs/skills.md.",
        f"name: {json.dumps(_name(output))}",
        f"base: {_path(family.base, output)}{'  # assumed: it was named first' if family.assumed else ''}",
        "sources:",
        *(
            f"  {name}: {_path(where, output)}{' ' * (width - len(name))}  # {family.said_of(name)}"
            for name, where in family.sources.items()
        ),
        "method: dare_linear                  # or task_arithmetic, ties, dare_ties: automerge's docs/methods.md",
        f"groups: whole                        # {dimensions} numbers to find; {{blocks: 3}}: {3 * dimensions}",
        "parameters:",
        "  weight: {range: [0.0, 1.5]}        # how much of each source's delta is added",
        "  drop: {range: [0.0, 0.9]}          # the share of it that DARE drops, rescaling the rest",
        "skills:                              # shipped ones load from the hub; for a file of yours:",
        "                                     # {use: gsm8k, data: {path: items.jsonl}}",
        "                                     # and for people's own writing: {use: writing, data: {path: …}}",
        *(f"  {name}: {skill}{_about(skill)}" for name, skill in skills.items()),
        f"objective: {{{', '.join(f'{name}: 1' for name in gained)}}}",
        "gates:                               # what must not be lost, shown on held-out items",
        *(f"  - {{skill: {name}, no_worse_than: base, margin: 1%}}" for name in fenced),
        *([f"  - {{skill: {name}, no_worse_than: base, margin: 0.02}}" for name in gained] if not fenced else []),
    ]
    return "\n".join(lines) + "\n"


def _name(output: Path) -> str:
    """The study's, after the file; a name may not begin with a sign."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", output.stem).lstrip("._-")
    return "my-merge" if name in ("automerge", "") else name


def _about(skill: str) -> str:
    text = find_shipped("evals", skill).read_text(encoding="utf-8")
    found = re.search(r"^about: (?!>)(.+)$", text, re.MULTILINE)
    return f"  # {found[1].split('. ')[0]}" if found else ""


def _path(where: str, output: Path) -> str:
    """As the config names it: relative paths start at its folder."""
    path = Path(where)
    if not path.exists():
        return where
    try:
        inside = path.resolve().relative_to(output.resolve().parent)
    except ValueError:
        return json.dumps(str(path.resolve()))
    return json.dumps(f"./{inside}")


def _table(family: Family) -> Table:
    table = plain_table(f"base {family.base}: {family.architecture}, {family.layers} layers, {family.dtype}")
    for column in ("source", "kind", "moved", "of which in the first, middle and last third of the layers"):
        table.add_column(column, justify="right" if column == "moved" else "left")
    for name in family.sources:
        thirds = ", ".join(f"{100 * share:.0f}%" for share in family.thirds(name))
        table.add_row(name, family.kinds[name], f"{100 * family.movement.share(name):.2f}%", thirds)
    return table
