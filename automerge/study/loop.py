"""The search: baselines first, then what the sampler proposes, until the budget is spent. Any moment may be the last.

What is finished is in the Optuna storage; the answers of an unfinished candidate are in the store, block by block. So
a driver that starts again adopts the trial that was running, under the same number, and goes on.
"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from automerge.config import SearchConfig
from automerge.errors import EngineLost, MergeError, StudyError
from automerge.recipe import Recipe
from automerge.records import from_json, to_json
from automerge.space.baselines import Baseline, baselines
from automerge.space.space import SearchSpace
from automerge.study.events import Began, Ended, Listen, Stage
from automerge.study.records import Record, Row, outside_row, study_rows, trial_row
from automerge.study.samplers import complete, propose
from automerge.study.store import BASELINE, OUTSIDE, RECORD
from automerge.study.trial import Bench, Trial, record_of, try_recipe

MAX_FAILURES = 5  # candidates in a row that could not be merged or served, before the study stops


@dataclass(frozen=True)
class Budget:
    """How much a study may spend in all: candidates (baselines among them) or seconds of trying them."""

    trials: int | None = None
    seconds: float | None = None

    def spent(self, trials: int, seconds: float) -> bool:
        return (self.trials is not None and trials >= self.trials) or (
            self.seconds is not None and seconds >= self.seconds
        )


class Search:
    """Drives one study. Its caller holds the study's lock. Reads of the storage are few: each costs milliseconds."""

    def __init__(self, study: optuna.Study, space: SearchSpace, bench: Bench, listen: Listen) -> None:
        self.study = study
        self.space = space
        self.config: SearchConfig = space.config
        self.bench = bench
        self.listen = listen
        self.baselines: list[Baseline] = baselines(space)
        self._references: dict[str, dict[str, float]] = {}
        self._trials, self._seconds = 0, 0.0  # spent
        self._failures = 0  # in a row

    def run(self, budget: Budget) -> None:
        """Searches until the budget is spent. Raises StudyError where nothing can be merged or served any more."""
        self._enqueue_baselines()
        self.listen(Stage("searching", budget.trials or 0))
        for row in self.rows():
            if row.state in ("complete", "failed"):
                self._count(row, restored=True)
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._run_trial(complete(self.study, optuna.Trial(self.study, frozen._trial_id), self.space))
        waiting = {row.label for row in self.rows() if row.state == "waiting"}
        for index, baseline in enumerate(self.baselines):
            if self._spent(budget):
                break
            if baseline.params is None:
                self._run_outside(f"{OUTSIDE}{index:02d}:{baseline.name}", baseline)
            elif baseline.name in waiting:
                self._run_trial(propose(self.study, self.space))  # enqueued in this order
        while not self._spent(budget):
            self._run_trial(propose(self.study, self.space))

    def rows(self) -> list[Row]:
        """Everything tried so far: baselines outside the space, then the trials by number."""
        return study_rows(self.study)

    def _enqueue_baselines(self) -> None:
        present = {trial.user_attrs.get(BASELINE) for trial in self.study.get_trials(deepcopy=False)}
        for baseline in self.baselines:
            if baseline.params is not None and baseline.name not in present:
                self.study.enqueue_trial(baseline.params, user_attrs={BASELINE: baseline.name})

    def _run_outside(self, key: str, baseline: Baseline) -> None:
        if key in self.study.user_attrs:
            return
        record = self._record(baseline.recipe, baseline.name)
        self.study.set_user_attr(key, to_json(record))
        self._count(outside_row(baseline.name, record))

    def _run_trial(self, trial: optuna.Trial) -> None:
        if RECORD not in trial.user_attrs:  # else its process died between recording it and telling Optuna
            record = self._record(self.space.recipe(trial.params), _label(trial))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a constraint set by a process that died is set already
                if record.violations:
                    trial.set_constraint("gates", total_violation(record.violations))
            trial.set_user_attr(RECORD, to_json(record))
        record = from_json(Record, trial.user_attrs[RECORD])
        if record.error:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, record.objective)
        self._count(trial_row(trial, "failed" if record.error else "complete"))

    def _record(self, recipe: Recipe, label: str) -> Record:
        self.listen(Began(label))
        start = time.perf_counter()
        try:
            trial = try_recipe(self.bench, recipe, label, "search")
        except (MergeError, EngineLost) as error:
            spent = {"total": time.perf_counter() - start}
            return Record(recipe.to_json(), "", 0.0, {}, {}, 0, spent, error=str(error))
        self._keep_reference(label, trial)
        return record_of(recipe, trial, self.config.objective, self.config.gates, self._reference_means())

    def _reference_means(self) -> Mapping[str, Mapping[str, float]]:
        """The search scores of every baseline a gate refers to, asked now where its own turn has not come yet."""
        for name in {gate.no_worse_than for gate in self.config.gates if gate.no_worse_than} - set(self._references):
            known = next((row.record for row in self.rows() if row.label == name and row.record), None)
            if known:
                self._references[name] = {skill: found.mean for skill, found in known.skills.items()}
            else:
                recipe = next(b.recipe for b in self.baselines if b.name == name)
                self._keep_reference(name, try_recipe(self.bench, recipe, name, "search"))
        return self._references

    def _keep_reference(self, name: str, trial: Trial) -> None:
        self._references[name] = {skill: found.mean for skill, found in trial.means().items()}

    def _spent(self, budget: Budget) -> bool:
        return budget.spent(self._trials, self._seconds)

    def _count(self, row: Row, *, restored: bool = False) -> None:
        self._trials += 1
        self._failures = self._failures + 1 if row.state == "failed" else 0
        self._seconds += row.record.seconds["total"] if row.record else 0.0
        self.listen(Ended(row, self._trials, self._seconds, restored))
        if self._failures >= MAX_FAILURES and not restored:
            reason = row.record.error if row.record else ""
            raise StudyError(f"the last {self._failures} candidates could not be merged or served; the last: {reason}")


def total_violation(violations: Mapping[str, float]) -> float:
    """What Optuna is told of the gates: the sum of the broken ones, else the largest, ≤ 0. One number, one write.

    TPE adds up the positive constraints of a trial itself, so it loses nothing by the sum.
    """
    broken = [amount for amount in violations.values() if amount > 0]
    return sum(broken) if broken else max(violations.values())


def _label(trial: optuna.Trial) -> str:
    return str(trial.user_attrs.get(BASELINE, f"trial {trial.number}"))
