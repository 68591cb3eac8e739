"""The command lines that a study's reader is told, with what they need to find the study again."""

import shlex

from automerge.config import SearchConfig
from automerge.study.folder import StudyFolder
from automerge.study.store import public_url


def search_command(config: SearchConfig, folder: StudyFolder, storage: str, tried: int) -> str:
    """What repeats a search of `tried` candidates. CONFIG stands for its file, which the study does not know."""
    how = ["--budget", str(tried), "--seed", str(config.seed)]
    return shlex.join(["automerge", "search", "CONFIG", *how, *_storage(folder, storage)])


def export_command(label: str | None, folder: StudyFolder, storage: str, *, named: bool = True) -> str:
    """What writes a candidate out; without a label, the one that was promoted. `named`: whether the folder has to be
    named, as it is not the newest under results/."""
    where = ["--out", str(folder.path)] if named else []
    chosen = ["--trial", label.removeprefix("trial ")] if label is not None else []
    return shlex.join(["automerge", "export", *where, *_storage(folder, storage), *chosen, "my-merge"])


def _storage(folder: StudyFolder, storage: str) -> list[str]:
    """Its option, without a password: the line is shown, and kept in pages."""
    return ["--storage", public_url(storage)] if storage != folder.storage else []
