"""The command lines a reader is told find the study they are about."""

from pathlib import Path

from automerge.config import load_search
from automerge.report.commands import export_command, search_command
from automerge.study.folder import StudyFolder

FOLDER = StudyFolder(Path("results/a study"))
SERVER = "postgresql://me:secret@db/studies?password=secret"


def test_export() -> None:
    own = FOLDER.storage
    assert export_command(None, FOLDER, own, named=False) == "automerge export my-merge"
    assert export_command("trial 7", FOLDER, own) == "automerge export --out 'results/a study' --trial 7 my-merge"
    assert export_command("dare_0.5", FOLDER, own, named=False) == "automerge export --trial dare_0.5 my-merge"
    shared = export_command("trial 7", FOLDER, SERVER, named=False)
    assert shared == "automerge export --storage 'postgresql://me:***@db/studies' --trial 7 my-merge"


def test_search() -> None:
    config = load_search("qwen_2_5").model_copy(update={"seed": 3})
    assert search_command(config, FOLDER, FOLDER.storage, 41) == "automerge search CONFIG --budget 41 --seed 3"
    assert "secret" not in search_command(config, FOLDER, SERVER, 41)
