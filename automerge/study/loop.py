"""The search: baselines first, then what the sampler proposes, until the budget is spent. Any moment may be the last.

What is finished is in the Optuna storage; the answers of an unfinished candidate are in the store, block by block. So
a driver that starts again adopts the trial that was running, under the same number, and goes on.
"""

import json
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
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
from automerge.study.climb import Climb, Watching
from automerge.study.crew import run_jobs
from automerge.study.drivers import CLAIM, DECIDING, OWNER, Alone, Drivers
from automerge.study.events import Began, Ended, Listen, Note, Stage
from automerge.study.records import Record, Row, SkillMean, objective_of, outside_row, study_rows, trial_row
from automerge.study.samplers import Sampler
from automerge.study.store import BASELINE, OUTSIDE, RECORD, START, STARTS
from automerge.study.trial import Attempt, Candidates, Trial

Points = Mapping[str, Mapping[str, float]]  # name → value a parameter

WAIT = 1.0  # seconds between looks at what other drivers still try
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


@dataclass
class _Job:
    """A candidate on its way: what it is, and what became of it."""

    recipe: Recipe
    label: str
    baseline: bool
    trial: optuna.Trial | None = None  # None: a baseline outside the space, kept under `key`
    key: str = ""
    watch: Watching | None = None
    tier: bool = False
    found: Trial | None = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def recorded(self) -> bool:
        """Whether its process died between recording it and telling Optuna."""
        return self.trial is not None and RECORD in self.trial.user_attrs


class Search:
    """Drives one study. Its caller holds the study's lock. Reads of the storage are few: each costs milliseconds."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        bench: Candidates,
        listen: Listen,
        starts: Callable[[], Points] = dict,
        drivers: Drivers | None = None,
    ) -> None:
        """`starts` finds points that are tried after the baselines, before anything is proposed. It may take long, so
        it is asked once in a study. `drivers`: who else drives the study; by default nobody."""
        self.study = study
        self.space = space
        self.config: SearchConfig = space.config
        self.bench = bench
        self.listen = listen
        self.baselines: list[Baseline] = baselines(space)
        self._find_starts = starts
        self.climb = Climb(self.config, bench.counts, bench.search_scores, tier=bench.has_tier)
        self.drivers: Drivers = drivers or Alone()
        self._counted: set[str] = set()  # labels
        self._trials, self._seconds = 0, 0.0  # spent
        self._begun = 0  # of the trials in the budget, with those that are being tried
        self._failures = 0  # in a row

    def run(self, budget: Budget) -> None:
        """Searches until the budget is spent. Raises StudyError where nothing can be merged or served any more."""
        with self.drivers.holding(DECIDING):
            self.sampler = Sampler.of(self.study, self.space, budget.trials, self.bench.width)
            self._enqueue(BASELINE, {b.name: b.params for b in self.baselines if b.params is not None})
        self.listen(Stage("searching", budget.trials or 0))
        self._catch_up()
        self._work(self._decided(self._jobs(budget)))
        while self._others():  # what is left by one that is gone is taken up, the rest waited for
            self._work(self._decided(self._left()))
            time.sleep(WAIT)
            self._catch_up()

    def _work(self, jobs: Iterator["_Job"]) -> None:
        run_jobs(jobs, self._ready, self._try, self._finish, self.bench.width, self.bench.halt)

    def _decided(self, jobs: Iterator["_Job"]) -> Iterator["_Job"]:
        """The same, each made while nobody else decides, in the light of what the others did."""
        while True:
            with self.drivers.holding(DECIDING):
                if self.drivers.shared:
                    self._catch_up()
                job = next(jobs, None)
            if job is None:
                return
            yield job

    def _jobs(self, budget: Budget) -> Iterator["_Job"]:
        """What is to be tried, one after another, each made when there is an engine for it."""
        yield from self._left()
        waiting = {row.label for row in self.rows() if row.state == "waiting"}
        for index, baseline in enumerate(self.baselines):
            if self._spent(budget):
                break
            if baseline.params is None and self._is_free(self._outside(index)):
                yield self._baseline_job(index)
            elif baseline.name in waiting and self._is_waiting(baseline.name):
                yield self._trial_job(self.sampler.propose())  # enqueued in this order
        for name, point in self._starts().items() if not self._spent(budget) else ():
            if not self._spent(budget) and self._enqueue(START, {name: point}):
                yield self._trial_job(self.sampler.propose())
        while not self._spent(budget):
            yield self._trial_job(self.sampler.propose())

    def _left(self) -> Iterator["_Job"]:
        """What drivers that are gone had begun."""
        for frozen in self._running():
            if self.drivers.is_gone(frozen.user_attrs.get(OWNER)):
                yield self._trial_job(self.sampler.complete(optuna.Trial(self.study, frozen._trial_id)))
        for index, _ in enumerate(self.baselines) if self.drivers.shared else ():
            key = self._outside(index)
            if CLAIM + key in self.study.user_attrs and self._is_free(key):
                yield self._baseline_job(index)

    def _running(self) -> list[optuna.trial.FrozenTrial]:
        found: list[optuna.trial.FrozenTrial]
        found = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return found

    def _others(self) -> bool:
        """Whether somebody else has begun what has not ended."""
        if not self.drivers.shared:
            return False
        attributes = self.study.user_attrs
        keys = [self._outside(index) for index in range(len(self.baselines))]
        return bool(self._running()) or any(CLAIM + key in attributes and key not in attributes for key in keys)

    def _outside(self, index: int) -> str:
        """The study's attribute that holds the record of a baseline outside the space."""
        return f"{OUTSIDE}{index:02d}:{self.baselines[index].name}"

    def _is_free(self, key: str) -> bool:
        """Whether nobody has tried, or is trying, a baseline outside the space."""
        attributes = self.study.user_attrs
        return key not in attributes and self.drivers.is_gone(attributes.get(CLAIM + key))

    def _is_waiting(self, label: str) -> bool:
        """Whether nobody took an enqueued trial since it was seen. One driver knows that by itself."""
        return not self.drivers.shared or any(row.label == label and row.state == "waiting" for row in self.rows())

    def _catch_up(self) -> None:
        """Takes in what ended without this driver, and counts what is begun."""
        rows = self.rows()
        for row in rows:
            if row.finished and row.label not in self._counted:
                self._count(row, restored=True)
        self.climb.settle()  # once: the order of the rows is not that in which they were tried
        self._begun = self._trials
        if self.drivers.shared:
            keys = [key.removeprefix(CLAIM) for key in self.study.user_attrs if key.startswith(CLAIM)]
            self._begun += sum(row.state == "running" for row in rows)
            self._begun += sum(key not in self.study.user_attrs for key in keys)

    def rows(self) -> list[Row]:
        """Everything tried so far: baselines outside the space, then the trials by number."""
        return study_rows(self.study)

    def _starts(self) -> Points:
        """The study's starting points, found at the first call."""
        if STARTS not in self.study.user_attrs:
            self.study.set_user_attr(STARTS, json.dumps(self._find_starts()))
        found: Points = json.loads(self.study.user_attrs[STARTS])
        return found

    def _enqueue(self, attribute: str, points: Points) -> bool:
        """Has these points tried next, in this order, each once in the study: `attribute` marks them by name. Whether
        there was a new one."""
        present = {trial.user_attrs.get(attribute) for trial in self.study.get_trials(deepcopy=False)}
        new = [name for name in points if name not in present]
        for name in new:
            self.study.enqueue_trial(dict(points[name]), user_attrs={attribute: name})
        return bool(new)

    def _baseline_job(self, index: int) -> "_Job":
        baseline, key = self.baselines[index], self._outside(index)
        if self.drivers.shared:
            self.study.set_user_attr(CLAIM + key, self.drivers.name)
        return self._begin(_Job(baseline.recipe, baseline.name, True, key=key))

    def _trial_job(self, trial: optuna.Trial) -> "_Job":
        if self.drivers.shared:
            trial.set_user_attr(OWNER, self.drivers.name)
        recipe = self.space.recipe(trial.params)
        return self._begin(_Job(recipe, _label(trial), BASELINE in trial.user_attrs, trial=trial))

    def _begin(self, job: "_Job") -> "_Job":
        self._begun += 1
        self.listen(Began(job.label))
        return job

    def _ready(self, job: "_Job", running: Collection["_Job"]) -> bool:
        """Whether the job can be tried now: its gates' references are known. Those that nobody asks are asked here."""
        names = {gate.no_worse_than for gate in self.config.gates if gate.no_worse_than} - {job.label}
        missing = sorted(names - self.climb.reference_means().keys())
        if any(other.label in missing for other in running):
            return False
        try:
            for name in missing:
                recipe = next(b.recipe for b in self.baselines if b.name == name)
                found = self.bench.attempt(Attempt(recipe, name, tier=self.climb.asks_tier))
                self.climb.refer(name, found.applied.checksum, found.means())
        except (MergeError, EngineLost) as error:
            job.error = error
        if not job.baseline:
            job.watch = self.climb.watch()
        job.tier = self.climb.asks_tier
        return True

    def _try(self, job: "_Job") -> None:
        """Asks the engine; with several workers in a thread of its own, so it touches nothing but the job."""
        start = time.perf_counter()
        if not job.error and not job.recorded:
            try:
                job.found = self.bench.attempt(Attempt(job.recipe, job.label, watch=job.watch, tier=job.tier))
            except (MergeError, EngineLost) as error:
                job.error = error
        job.seconds = time.perf_counter() - start

    def _finish(self, job: "_Job") -> None:
        """Records what became of a job, and tells Optuna; nothing where another driver has taken it over."""
        with self.drivers.holding(DECIDING):
            if self._is_mine(job):
                self._conclude(job)

    def _is_mine(self, job: "_Job") -> bool:
        """Whether no other driver thought this one gone."""
        if not self.drivers.shared:
            return True
        if job.trial is None:
            return bool(self.study.user_attrs.get(CLAIM + job.key) == self.drivers.name)
        held = next((frozen for frozen in self._running() if frozen.number == job.trial.number), None)
        return held is not None and held.user_attrs.get(OWNER) == self.drivers.name

    def _conclude(self, job: "_Job") -> None:
        if job.trial is None:
            record = self._record(job)
            self.study.set_user_attr(job.key, to_json(record))
            self._count(outside_row(job.label, record))
            return
        if not job.recorded:
            record = self._record(job)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a constraint set by a process that died is set already
                if record.violations:
                    job.trial.set_constraint("gates", total_violation(record.violations))
            job.trial.set_user_attr(RECORD, to_json(record))
        record = from_json(Record, job.trial.user_attrs[RECORD])
        self.sampler.tell(job.trial, record)
        self._count(trial_row(job.trial, "failed" if record.error else "complete"))

    def _record(self, job: "_Job") -> Record:
        if job.error is not None or job.found is None:
            spent = {"total": job.seconds}
            return Record(job.recipe.to_json(), "", 0.0, {}, {}, 0, spent, error=str(job.error))
        trial = job.found
        if job.baseline:
            self.climb.refer(job.label, trial.applied.checksum, trial.means())
        return self._record_of(
            job.recipe, trial, job.watch.estimate(trial) if job.watch and trial.stopped else trial.means()
        )

    def _record_of(self, recipe: Recipe, trial: Trial, skills: dict[str, SkillMean]) -> Record:
        means = self.climb.reference_means()
        return Record(
            recipe=recipe.to_json(),
            checksum=trial.applied.checksum,
            objective=objective_of(skills, self.config.weights),
            skills=skills,
            violations={str(gate): violation(gate, skills[gate.skill].mean, means) for gate in self.config.gates},
            tokens=trial.tokens,
            seconds=trial.seconds,
            stopped=trial.stopped,
            likelihoods=trial.likelihoods,
        )

    def _spent(self, budget: Budget) -> bool:
        return budget.spent(self._begun, self._seconds)

    def _count(self, row: Row, *, restored: bool = False) -> None:
        self._counted.add(row.label)
        self._trials += 1
        self._failures = self._failures + 1 if row.state == "failed" else 0
        self._seconds += row.record.seconds["total"] / self.bench.width if row.record else 0.0
        if row.record:
            self.climb.learn(row.label, row.record, baseline=row.is_baseline)
        if not restored and (note := self.climb.settle()):
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
