"""Draws the README's picture: the end of a finished search, as its terminal shows it.

python docs/picture.py STUDY_FOLDER docs/search.svg
"""

import sys
from pathlib import Path

from rich.console import Console

from automerge.cli.opening import open_existing
from automerge.cli.search import conclude
from automerge.report.tables import trial_table
from automerge.study.finals import last_verdict
from automerge.study.records import study_rows

LATEST = 8  # proposals shown, of all


def main(folder: Path, out: Path) -> None:
    opened = open_existing(folder, None, None)
    verdict = last_verdict(opened.study)
    assert verdict is not None, "the study has no verdict yet"
    rows = study_rows(opened.study)
    baselines = [row for row in rows if row.is_baseline]
    proposals = [row for row in rows if not row.is_baseline]
    console = Console(record=True, width=96, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(f"$ automerge search --budget {len(rows)}\n", highlight=False)
    console.print(trial_table([*baselines, *proposals[-LATEST:]], list(opened.config.skills)))
    conclude(console, verdict, opened.folder, None)
    console.save_svg(str(out), title="automerge search")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
