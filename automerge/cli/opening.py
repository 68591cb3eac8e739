"""What the subcommands share: finding the config, the embedded zoo, and the study's folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from automerge.cli.console import make_console
from automerge.config import SearchConfig, load_search, validate
from automerge.errors import StudyError
from automerge.evals.loaded import LoadedSkill, named_skills, skill_names
from automerge.evals.serve import check_models
from automerge.merge.sources.locate import hub_id
from automerge.study.folder import StudyFolder
from automerge.study.store import open_study
from automerge.zoo import make_known


def open_config(config: str | None, *, study: str | None, seed: int | None, engine: str | None) -> SearchConfig:
    """The config named, or ./automerge.yaml, or the embedded zoo; with what the command line overrides."""
    use = config or ("automerge.yaml" if Path("automerge.yaml").is_file() else "zoo")
    _prepare_zoo(use)
    loaded = load_search(use)
    update: dict[str, object] = {}
    if study is not None:
        update["name"] = study
    if seed is not None:
        update["seed"] = seed
    if engine is not None:
        update["engine"] = {**loaded.engine.model_dump(), "name": engine}
    checked = validate(SearchConfig, {**loaded.model_dump(), **update}, use)
    return checked.model_copy(update={"folder": loaded.folder, "file": loaded.file})


def open_asked(models: Sequence[str], base: str | None, skills: Sequence[str], seed: int) -> list[LoadedSkill]:
    """The skills that a command line names (see named_skills), once its models were found and opened: those on this
    machine before any item is asked of the hub, those of the hub after."""
    far = [model for model in models if hub_id(model)]
    near = [model for model in models if model not in far]
    if base is None or not hub_id(base):
        check_models(near, base)
        near = []
    for name in skill_names(skills):
        _prepare_zoo(name)
    loaded = named_skills(skills, seed)
    check_models([*near, *far], base)
    return loaded


def _prepare_zoo(use: str) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = make_console(stderr=True)
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task("the zoo", total=None)

    def on_progress(stage: str, done: int, total: int) -> None:
        if not (console.is_terminal or progress.live.is_started):
            console.print("making the zoo, once: minutes")  # where nothing is drawn
        progress.start()  # again and again: it draws, and ends with a line, only where there is something to make
        progress.update(task, description=f"making the zoo, once: {stage}", completed=done, total=total)

    try:
        make_known(use, on_progress)
    finally:
        if progress.live.is_started:
            progress.stop()


def study_folder(out: Path | None, name: str | None) -> StudyFolder:
    """The folder named by --out or --study; with neither, the newest study under results/."""
    if out is not None:
        return StudyFolder(out)
    if name is not None:
        return StudyFolder(Path("results") / name)
    found = sorted(Path("results").glob("*/study.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise StudyError("no study in results/", where=str(Path("results").absolute()), hint="Name one with --out.")
    return StudyFolder(found[-1].parent)


@dataclass(frozen=True)
class Opened:
    """A study to read, and its folder."""

    study: optuna.Study
    folder: StudyFolder
    config: SearchConfig


def open_existing(out: Path | None, name: str | None, storage: str | None) -> Opened:
    """A study that is there already. Raises StudyError where it is not."""
    folder = study_folder(out, name)
    about = folder.read_about()
    config = validate(SearchConfig, about["config"], str(folder.about))
    return Opened(open_study(str(about["study"]), storage or folder.storage), folder, config)
