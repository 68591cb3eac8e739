"""Writes docs/cli.md and docs/methods.md from the commands and methods themselves.

With --check it writes nothing, and exits 1 where a page is old.
"""

import os
import sys
from pathlib import Path

from methods_page import methods_page

DOCS = Path(__file__).parent
HEAD = """# Command line

Made by `python docs/generate.py` from the commands themselves; the tests refuse an old page.

Every command but `dashboard` prints JSON on standard output with `--json`, and nothing else there.

| exit code | meaning |
|---|---|
| 0 | done; for `search`: promoted |
| 1 | an error, shown as one screen on standard error (`automerge --debug …` adds the traceback) |
| 2 | the command line itself is wrong |
| 3 | `search`: not promoted; `export`: nothing was promoted; `gate`: a gate is not met |
| 130 | interrupted; for `search`: the same command goes on |

A study is found by `--out FOLDER`, or by `--study NAME` under `results/`; with neither, `trials`, `show`, `report`,
`dashboard`, `reweigh` and `export` take the newest one under `results/`.
"""


def cli_page() -> str:
    """The text of docs/cli.md."""
    os.environ["COLUMNS"] = "100"
    os.environ["NO_COLOR"] = "1"
    from typer.testing import CliRunner

    from automerge.cli import COMMANDS, make_app

    app = make_app()
    parts = [HEAD]
    for command in ((), *((name,) for name in COMMANDS)):
        title = " ".join(("automerge", *command))
        shown = CliRunner().invoke(app, [*command, "--help"], prog_name="automerge")
        lines = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        parts.append(f"## {title}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Writes or checks the pages."""
    for name, make in (("cli.md", cli_page), ("methods.md", methods_page)):
        path, text = DOCS / name, make()
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"docs/{name} is old; run: python docs/generate.py")


if __name__ == "__main__":
    main()
