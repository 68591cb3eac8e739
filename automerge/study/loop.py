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
from automerge.gate.rules import violation
from automerge.recipe import Recipe
from automerge.records import from_json, to_json
from automerge.space.baselines import Baseline, baselines
from automerge.space.space import SearchSpace
from automerge.study.climb import Climb
from automerge.study.events import Began, Ended, Listen, Note, Stage
from automerge.study.records import Record, Row, SkillMean, outside_row, study_rows, trial_row
from automerge.study.samplers import Sampler
from automerge.study.store import BASELINE, OUTSIDE, RECORD
from automerge.study.trial import Candidates, Trial

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

    def __init__(self, study: optuna.Study, space: SearchSpace, bench: Candidates, listen: Listen) -> None:
        self.study = study
        self.space = space
        self.config: SearchConfig = space.config
        self.bench = bench
        self.listen = listen
        self.baselines: list[Baseline] = baselines(space)
        self.climb = Climb(self.config, bench.counts, bench.search_scores, tier=bench.has_tier)
        self._trials, self._seconds = 0, 0.0  # spent
        self._failures = 0  # in a row

    def run(self, budget: Budget) -> None:
        """Searches until the budget is spent. Raises StudyError where nothing can be merged or served any more."""
        self.sampler = Sampler.of(self.study, self.space, budget.trials)
        self._enqueue_baselines()
        self.listen(Stage("searching", budget.trials or 0))
        for row in self.rows():
            if row.state in ("complete", "stopped", "failed"):
                self._count(row, restored=True)
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._run_trial(self.sampler.complete(optuna.Trial(self.study, frozen._trial_id)))
        waiting = {row.label for row in self.rows() if row.state == "waiting"}
        for index, baseline in enumerate(self.baselines):
            if self._spent(budget):
                break
            if baseline.params is None:
                self._run_outside(f"{OUTSIDE}{index:02d}:{baseline.name}", baseline)
            elif baseline.name in waiting:
                self._run_trial(self.sampler.propose())  # enqueued in this order
        while not self._spent(budget):
            self._run_trial(self.sampler.propose())

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
        record = self._record(baseline.recipe, baseline.name, baseline=True)
        self.study.set_user_attr(key, to_json(record))
        self._count(outside_row(baseline.name, record))

    def _run_trial(self, trial: optuna.Trial) -> None:
        if RECORD not in trial.user_attrs:  # else its process died between recording it and telling Optuna
            record = self._record(self.space.recipe(trial.params), _label(trial), baseline=BASELINE in trial.user_attrs)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a constraint set by a process that died is set already
                if record.violations:
                    trial.set_constraint("gates", total_violation(record.violations))
            trial.set_user_attr(RECORD, to_json(record))
        record = from_json(Record, trial.user_attrs[RECORD])
        self.sampler.tell(trial, record)
        self._count(trial_row(trial, "failed" if record.error else "complete"))

    def _record(self, recipe: Recipe, label: str, *, baseline: bool) -> Record:
        self.listen(Began(label))
        start = time.perf_counter()
        watch = None if baseline else self.climb.watch()
        try:
            self._ask_references(label)
            trial = self.bench.attempt(recipe, label, "search", watch=watch, tier=self.climb.asks_tier)
        except (MergeError, EngineLost) as error:
            spent = {"total": time.perf_counter() - start}
            return Record(recipe.to_json(), "", 0.0, {}, {}, 0, spent, error=str(error))
        if baseline:
            self.climb.refer(label, trial.applied.checksum, trial.means())
        return self._record_of(recipe, trial, watch.estimate(trial) if watch and trial.stopped else trial.means())

    def _record_of(self, recipe: Recipe, trial: Trial, skills: dict[str, SkillMean]) -> Record:
        weights = self.config.weights
        means = self.climb.reference_means()
        return Record(
            recipe=recipe.to_json(),
            checksum=trial.applied.checksum,
            objective=sum(weight * skills[name].mean for name, weight in weights.items()) / sum(weights.values()),
            skills=skills,
            violations={str(gate): violation(gate, skills[gate.skill].mean, means) for gate in self.config.gates},
            tokens=trial.tokens,
            seconds=trial.seconds,
            stopped=trial.stopped,
            likelihoods=trial.likelihoods,
        )

    def _ask_references(self, label: str) -> None:
        """Every baseline a gate refers to, but the one that is asked next, is asked where its turn has not come yet."""
        names = {gate.no_worse_than for gate in self.config.gates if gate.no_worse_than}
        for name in sorted(names - {label}):
            if name not in self.climb.reference_means():
                recipe = next(b.recipe for b in self.baselines if b.name == name)
                trial = self.bench.attempt(recipe, name, "search", tier=self.climb.asks_tier)
                self.climb.refer(name, trial.applied.checksum, trial.means())

    def _spent(self, budget: Budget) -> bool:
        return budget.spent(self._trials, self._seconds)

    def _count(self, row: Row, *, restored: bool = False) -> None:
        self._trials += 1
        self._failures = self._failures + 1 if row.state == "failed" else 0
        self._seconds += row.record.seconds["total"] if row.record else 0.0
        note = self.climb.learn(row.label, row.record, baseline=row.is_baseline) if row.record else None
        if note and not restored:
            self.listen(Note(note))
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
