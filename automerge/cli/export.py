"""`automerge export OUT`: writes what was promoted, or any trial, as an ordinary Hugging Face checkpoint."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from automerge.cli.console import make_console
from automerge.cli.opening import open_existing
from automerge.cli.options import AsJson, Out, Storage, StudyName
from automerge.cli.show import find_row
from automerge.export.push import Upload, is_repository, push, upload_of
from automerge.report.candidate import write_candidate
from automerge.study.finals import last_verdict
from automerge.study.records import study_rows

NOT_PROMOTED = 3


def export(
    folder: Annotated[Path, typer.Argument(metavar="out", help="The folder to write; it must not be there yet.")],
    trial: Annotated[
        str, typer.Option(help="best: what was promoted; or a trial's number, or a baseline's name.")
    ] = "best",
    study: StudyName = None,
    out: Out = None,
    storage: Storage = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Send it to this repository of the Hugging Face hub, too.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let all see a repository made by that.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a merge as a checkpoint that transformers and vLLM load. Its checksum is that of the weights scored."""
    if push_to_hub is None and (public or dry_run):
        raise typer.BadParameter("--public and --dry-run are for --push-to-hub OWNER/NAME")
    if push_to_hub is not None and not is_repository(push_to_hub):
        raise typer.BadParameter(f"--push-to-hub: expected OWNER/NAME, got {push_to_hub!r}")
    opened = open_existing(out, study, storage)
    verdict = last_verdict(opened.study)
    if trial == "best":
        if verdict is None or verdict.winner is None:
            reason = f"{verdict.outcome}: {verdict.reason}" if verdict else "the study has no verdict yet"
            make_console(stderr=True).print(f"Nothing to export: {reason}.\n--trial N writes a trial all the same.")
            return NOT_PROMOTED
        trial = verdict.winner.removeprefix("trial ")
    row, record = find_row(study_rows(opened.study), trial)
    written = write_candidate(folder, row.label, record, verdict, opened.folder)
    upload = upload_of(folder, push_to_hub, private=not public) if push_to_hub else None
    address = push(folder, upload) if upload and not dry_run else None
    if as_json:
        summary = {"out": str(folder), "trial": row.label, "checksum": written.checksum, "bytes": written.bytes}
        sent = {"upload": asdict(upload), "pushed": address} if upload else {}
        print(json.dumps({**summary, "seconds": written.seconds, **sent}))
    else:
        size = f"{written.bytes / 1e6:.1f} MB in {written.seconds:.1f} s"
        make_console().print(f"{row.label} → {folder}: {size}, checksum {written.checksum}, as scored")
        if upload:
            _print_upload(upload, address)
    return 0


def _print_upload(upload: Upload, address: str | None) -> None:
    console = make_console()
    seen = "private" if upload.private else "public"
    total = sum(upload.files.values()) / 1e6
    console.print(f"{'Pushed' if address else 'Would push'} to {upload.repo} ({seen}), {total:.1f} MB:")
    for name, size in upload.files.items():
        console.print(f"  {name}  {size:,} bytes")
    if address:
        console.print(address)
