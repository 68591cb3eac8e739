"""Writes docs/cli.md from the command line itself. With --check it writes nothing and exits 1 where the page is old."""

import os
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "cli.md"
COMMANDS = ("search", "check", "trials", "show", "export", "eval", "merge")
HEAD = """# Command line

Made by `python docs/generate.py` from the commands themselves; the tests refuse an old page.

Every command prints JSON on standard output with `--json`, and nothing else there.

| exit code | meaning |
|---|---|
| 0 | done; for `search`: promoted |
| 1 | an error, shown as one screen on standard error (`automerge --debug …` adds the traceback) |
| 2 | the command line itself is wrong |
| 3 | `search`: not promoted; `export`: nothing was promoted |
| 130 | interrupted; for `search`: the same command goes on |

A study is found by `--out FOLDER`, or by `--study NAME` under `results/`; with neither, `trials`, `show` and `export`
take the newest one under `results/`.
"""


def page() -> str:
    """The whole page."""
    os.environ["COLUMNS"] = "100"
    os.environ["NO_COLOR"] = "1"
    from typer.testing import CliRunner

    from automerge.cli import app

    registered = [str(command.name) for command in app.registered_commands]
    if sorted(registered) != sorted(COMMANDS):
        raise SystemExit(f"docs/generate.py lists {', '.join(COMMANDS)}; there are {', '.join(registered)}")
    parts = [HEAD]
    for command in ((), *((name,) for name in COMMANDS)):
        title = " ".join(("automerge", *command))
        shown = CliRunner().invoke(app, [*command, "--help"], prog_name="automerge")
        lines = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        parts.append(f"## {title}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Writes or checks the page."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            raise SystemExit("docs/cli.md is old; run: python docs/generate.py")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
