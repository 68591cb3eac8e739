"""`automerge trials`: the study as a table."""

import json

from automerge.cli.console import make_console
from automerge.cli.opening import open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.report.tables import trial_table, verdict_line
from automerge.study.finals import last_verdict
from automerge.study.records import study_rows


def trials(study: StudyName = None, out: Out = None, storage: Storage = None, as_json: AsJson = False) -> None:
    """List every baseline and trial of a study, with its verdict."""
    opened = open_existing(out, study, storage)
    rows = study_rows(opened.study)
    if as_json:
        print(json.dumps([row.to_json() for row in rows]))
        return
    console = make_console()
    title = f"{opened.study.study_name}, search items"
    console.print(trial_table(rows, list(opened.config.skills), title=title, width=console.width))
    verdict = last_verdict(opened.study)
    console.print(verdict_line(verdict) if verdict else "No verdict yet: the search has not finished.")
