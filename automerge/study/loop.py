"""The search: baselines first, then what the sampler proposes, until the budget is spent. Any moment may be the last.

What is finished is in the Optuna storage; the answers of an unfinished candidate are in the store, block by block. So
a driver that starts again adopts the trial that was running, under the same number, and goes on.
"""

import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping

import optuna

from automerge.config import SearchConfig
from automerge.errors import EngineLost, MergeError, StudyError
from automerge.gate.rules import violation
from automerge.recipe import Recipe
from automerge.records import from_json, to_json
from automerge.space.baselines import Baseline, baselines
from automerge.space.space import SearchSpace
from automerge.study.agenda import Agenda, Points
from automerge.study.climb import Climb
from automerge.study.crew import run_jobs
from automerge.study.drivers import DECIDING, Alone, Drivers
from automerge.study.events import Began, Ended, Listen, Note, Stage
from automerge.study.jobs import Budget, Job
from automerge.study.records import Record, Row, SkillMean, objective_of, outside_row, study_rows, trial_row
from automerge.study.samplers import Sampler
from automerge.study.store import RECORD
from automerge.study.trial import Attempt, Candidates, Trial

WAIT = 1.0  # seconds between looks at what other drivers still try
MAX_FAILURES = 5  # candidates in a row that could not be merged or served, before the study stops


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
        self.agenda = Agenda(study, space, self.baselines, starts, drivers or Alone())
        self.climb = Climb(self.config, bench.counts, bench.search_scores, tier=bench.has_tier)
        self.drivers = self.agenda.drivers
        self._counted: set[str] = set()  # labels
        self._trials, self._seconds = 0, 0.0  # spent
        self._begun = 0  # of the trials in the budget, with those that are being tried
        self._failures = 0  # in a row
        self._served = False  # any candidate, ever

    def run(self, budget: Budget) -> None:
        """Searches until the budget is spent. Raises StudyError where nothing can be merged or served any more."""
        with self.drivers.holding(DECIDING):
            self.agenda.begin(Sampler.of(self.study, self.space, budget.trials, self.bench.width))
        self.listen(Stage("searching", budget.trials or 0))
        self._catch_up()
        self._work(self.agenda.jobs(lambda: budget.spent(self._begun, self._seconds)))
        while self.agenda.others():  # what is left by one that is gone is taken up, the rest waited for
            self._work(self.agenda.left())
            time.sleep(WAIT)
            self._catch_up()

    def _work(self, jobs: Iterator[Job]) -> None:
        run_jobs(self._decided(jobs), self._prepare, self._try, self._finish, self.bench.width, self.bench.halt)

    def _decided(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The same, each made while nobody else decides, in the light of what the others did."""
        while True:
            with self.drivers.holding(DECIDING):
                if self.drivers.shared:
                    self._catch_up()
                job = next(jobs, None)
                if job is not None:
                    self._begun += 1
            if job is None:
                return
            self.listen(Began(job.label))
            yield job

    def _catch_up(self) -> None:
        """Takes in what ended without this driver, and counts what is begun."""
        rows = self.rows()
        for row in rows:
            if row.finished and row.label not in self._counted:
                self._count(row, restored=True)
        self.climb.settle()  # once: the order of the rows is not that in which they were tried
        self._begun = self._trials
        if self.drivers.shared:
            self._begun += sum(row.state == "running" for row in rows) + self.agenda.claimed()

    def rows(self) -> list[Row]:
        """Everything tried so far: baselines outside the space, then the trials by number."""
        return study_rows(self.study)

    def _prepare(self, job: Job, running: Collection[Job]) -> bool:
        """Whether the job can be tried now: its gates' references are known. Those that nobody asks are asked here."""
        missing = sorted(self.climb.missing() - {job.label})
        if any(other.label in missing for other in running):
            return False
        try:
            for name in missing:
                recipe = next(b.recipe for b in self.baselines if b.name == name)
                found = self.bench.attempt(Attempt(recipe, name, tier=self.climb.asks_tier))
                self.climb.refer(name, found.applied.checksum, found.means())
        except (MergeError, EngineLost) as error:
            job.error = error
        if job.label not in self.climb.referred:  # what gates refer to is asked everything
            job.watch = self.climb.watch()
        job.tier = self.climb.asks_tier
        return True

    def _try(self, job: Job) -> None:
        """Asks the engine; with several workers in a thread of its own, so it touches nothing but the job."""
        start = time.perf_counter()
        if not job.error and not job.recorded:
            try:
                job.found = self.bench.attempt(Attempt(job.recipe, job.label, watch=job.watch, tier=job.tier))
            except (MergeError, EngineLost) as error:
                job.error = error
        job.seconds = time.perf_counter() - start

    def _finish(self, job: Job) -> None:
        """Records what became of a job, and tells Optuna; nothing where another driver has taken it over."""
        with self.drivers.holding(DECIDING):
            if self.agenda.is_mine(job):
                self._conclude(job)

    def _conclude(self, job: Job) -> None:
        if job.error is not None and not self._served:  # not recorded: the same command tries it again
            message = f"the first candidate could not be merged or served: {job.error}"
            raise StudyError(message, where=job.label, hint="Mend that, or take another engine, and run it again.")
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
        self.agenda.sampler.tell(job.trial, record)
        self._count(trial_row(job.trial, "failed" if record.error else "complete"))

    def _record(self, job: Job) -> Record:
        if job.error is not None or job.found is None:
            spent = {"total": job.seconds}
            return Record(job.recipe.to_json(), "", 0.0, {}, {}, 0, spent, error=str(job.error))
        trial = job.found
        if job.baseline and not trial.stopped:
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

    def _count(self, row: Row, *, restored: bool = False) -> None:
        self._counted.add(row.label)
        self._trials += 1
        self._failures = self._failures + 1 if row.state == "failed" else 0
        self._served |= not self._failures
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
