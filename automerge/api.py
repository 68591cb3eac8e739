"""The same from Python, in a script or a notebook: search, merge, evaluate. Each does what its command does.

from automerge import api

found = api.search("automerge.yaml", budget=50)
print(found.verdict.outcome, found.verdict.reason)
found.export("my-merge")
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from automerge.config import EngineConfig, SearchConfig, load_search, located, validate
from automerge.errors import StudyError
from automerge.evals.loaded import Half, named_skills, skill_names
from automerge.evals.models import evaluate_model
from automerge.evals.serve import check_models
from automerge.evals.store import AnswerStore
from automerge.export.checkpoint import write_checkpoint
from automerge.export.folder import check_vacant
from automerge.gate.verdict import Verdict
from automerge.merge.described import read_described
from automerge.records import Applied, ItemResult
from automerge.report.candidate import write_candidate
from automerge.report.page import page
from automerge.study.events import Began, Ended, Event, Listen, Stage
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import Row, study_rows
from automerge.study.session import make_plan, run_search
from automerge.study.store import open_study
from automerge.zoo import make_known


@dataclass(frozen=True)
class Found:
    """What a search came to. A notebook shows it as the study's report."""

    config: SearchConfig
    folder: StudyFolder
    storage: str
    verdict: Verdict

    @property
    def trials(self) -> list[Row]:
        """Everything that was tried, as `automerge trials` has it."""
        return study_rows(open_study(self.config.name, self.storage))

    def export(self, out: str | Path, trial: str | None = None) -> Applied:
        """Writes what was promoted, or the candidate of that label (`trial 7`, `task_arithmetic`), as a checkpoint.

        Raises StudyError where nothing was promoted, or there is no such candidate.
        """
        label = trial or self.verdict.winner
        if label is None:
            hint = "Name a trial to write one all the same."
            raise StudyError(f"nothing to export: {self.verdict.outcome}: {self.verdict.reason}", hint=hint)
        row = next((row for row in self.trials if row.label == label), None)
        if row is None or row.record is None or row.record.error:
            raise StudyError(f"no candidate {label!r} with scores")
        return write_candidate(Path(out), label, row.record, self.verdict, self.folder)

    def report(self) -> str:
        """The HTML page of `automerge report`."""
        return page(open_study(self.config.name, self.storage), self.config, self.folder, self.storage)

    def _repr_html_(self) -> str:
        text = self.report().replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe title="report" style="width:100%;height:40rem;border:0" srcdoc="{text}"></iframe>'


def search(
    config: str | Path | Mapping[str, Any],
    *,
    budget: int = 50,
    seconds: float | None = None,
    out: str | Path | None = None,
    storage: str | None = None,
    workers: int = 1,
    listen: Listen | None = None,
) -> Found:
    """Searches and proves, or goes on with what is in `out` (default: results/NAME). As `automerge search`.

    `config` is a file, the name of a shipped one, or its keys as a mapping, whose paths start at the current folder.
    `budget` is trials in all; `seconds`, where given, is time instead. `listen` takes events; without it a progress bar
    is drawn. Raises AutomergeError.
    """
    if isinstance(config, Mapping):
        loaded = located(validate(SearchConfig, config, "config"), Path.cwd())
    else:
        make_known(str(config))
        loaded = load_search(str(config))
    folder = StudyFolder(Path(out) if out is not None else Path("results") / loaded.name)
    plan = make_plan(loaded)
    spend = Budget(seconds=seconds) if seconds is not None else Budget(trials=budget)
    with _bar(spend) if listen is None else nullcontext(listen) as told:
        verdict = run_search(plan, folder, spend, told, storage=storage, workers=workers)
    return Found(loaded, folder, storage or folder.storage, verdict)


def merge(recipe: str | Path, out: str | Path, *, seed: int | None = None) -> Applied:
    """Writes the checkpoint of a recipe.json, or of mergekit's YAML (`seed`: of its random drops). Raises
    AutomergeError."""
    check_vacant(Path(out))
    read = read_described(Path(recipe), seed)
    return write_checkpoint(read.recipe, read.models, Path(out), expected_checksum=None)


def evaluate(
    models: Sequence[str | Path],
    skills: Sequence[str],
    *,
    base: str | None = None,
    half: Half = "held_out",
    seed: int = 0,
    engine: str = "auto",
    answers: str | Path | None = None,
) -> dict[str, dict[str, list[ItemResult]]]:
    """Model → skill → a result an item: prompt, answer, tokens, score. As `automerge eval`. Raises AutomergeError."""
    for name in skill_names(skills):
        make_known(name)
    loaded = named_skills(skills, seed)
    serving = validate(EngineConfig, {"name": engine}, "engine")
    check_models([str(model) for model in models], base)
    with AnswerStore(Path(answers) if answers is not None else None) as store:
        return {str(model): evaluate_model(str(model), base, loaded, half, store, serving) for model in models}


@contextmanager
def _bar(budget: Budget) -> Iterator[Callable[[Event], None]]:
    """A bar of candidates, then of models that are proven; in a notebook too."""
    with Progress(transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def listen(event: Event) -> None:
            if isinstance(event, Stage):
                total = budget.trials if event.name == "searching" else event.total
                progress.update(task, description=event.name, completed=0, total=total)
            elif isinstance(event, Ended):
                progress.update(task, completed=event.spent_trials)
            elif isinstance(event, Began) and progress.tasks[0].description == "proving":
                progress.advance(task)

        yield listen
