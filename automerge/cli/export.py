"""`automerge export OUT`: writes what was promoted, or any trial, as an ordinary Hugging Face checkpoint."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from automerge.cli.opening import open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.cli.show import find_row
from automerge.report.candidate import write_candidate
from automerge.study.finals import last_verdict
from automerge.study.records import study_rows

NOT_PROMOTED = 3


def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; it must not be there yet.")],
    trial: Annotated[
        str, typer.Option(help="best: what was promoted; or a trial's number, or a baseline's name.")
    ] = "best",
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> int:
    """Write a merge as a checkpoint that transformers and vLLM load. Its checksum is that of the weights scored."""
    opened = open_existing(out, study, storage)
    verdict = last_verdict(opened.study)
    if trial == "best":
        if verdict is None or verdict.winner is None:
            reason = f"{verdict.outcome}: {verdict.reason}" if verdict else "the study has no verdict yet"
            Console(stderr=True).print(
                f"Nothing to export: {reason}.\n--trial N writes a trial all the same.", highlight=False
            )
            return NOT_PROMOTED
        trial = verdict.winner.removeprefix("trial ")
    row, record = find_row(study_rows(opened.study), trial)
    written = write_candidate(folder, row.label, record, verdict, opened.folder)
    if as_json:
        summary = {"out": str(folder), "trial": row.label, "checksum": written.checksum, "bytes": written.bytes}
        print(json.dumps({**summary, "seconds": written.seconds}))
    else:
        size = f"{written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s"
        Console().print(f"{row.label} → {folder}: {size}, checksum {written.checksum}, as scored", highlight=False)
    return 0
