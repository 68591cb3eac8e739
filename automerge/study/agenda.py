"""What a study tries next: what drivers that are gone had begun, baselines, starting points, then what the sampler
proposes. Each is made when there is an engine for it, and marked as this driver's where others drive the study too.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import optuna
from optuna.trial import TrialState

from automerge.space.baselines import Baseline
from automerge.space.space import SearchSpace
from automerge.space.sparse import Params
from automerge.study.drivers import CLAIM, OWNER, Drivers
from automerge.study.jobs import Job, label_of
from automerge.study.records import study_rows
from automerge.study.samplers import Sampler
from automerge.study.store import BASELINE, OUTSIDE, START, STARTS

Points = Mapping[str, Params]  # name → value a parameter


class Agenda:
    """Of one study. All but `others` is asked while nobody else decides (drivers.DECIDING)."""

    sampler: Sampler

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        baselines: Sequence[Baseline],
        starts: Callable[[], Points],
        drivers: Drivers,
    ) -> None:
        """`starts` finds the points that are tried after the baselines; it is asked once in a study."""
        self.study = study
        self.space = space
        self.baselines = baselines
        self.drivers = drivers
        self._find_starts = starts

    def begin(self, sampler: Sampler) -> None:
        """Before `jobs`: what proposes, and the baselines that it can."""
        self.sampler = sampler
        self._enqueue(BASELINE, {b.name: b.params for b in self.baselines if b.params is not None})

    def jobs(self, spent: Callable[[], bool]) -> Iterator[Job]:
        """What is to be tried, one after another, until the budget is `spent`."""
        yield from self.left()
        waiting = {row.label for row in study_rows(self.study) if row.state == "waiting"}
        for index, baseline in enumerate(self.baselines):
            if spent():
                break
            if baseline.params is None and self._is_free(self._outside(index)):
                yield self._baseline_job(index)
            elif baseline.name in waiting and self._is_waiting(baseline.name):
                yield self._trial_job(self.sampler.propose())  # enqueued in this order
        for name, point in self._starts().items() if not spent() else ():
            if not spent() and self._enqueue(START, {name: point}):
                yield self._trial_job(self.sampler.propose())
        while not spent():
            yield self._trial_job(self.sampler.propose())

    def left(self) -> Iterator[Job]:
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

    def others(self) -> bool:
        """Whether somebody else has begun what has not ended."""
        if not self.drivers.shared:
            return False
        return bool(self._running()) or self.claimed() > 0

    def _outside(self, index: int) -> str:
        """The study's attribute that holds the record of a baseline outside the space."""
        return f"{OUTSIDE}{index:02d}:{self.baselines[index].name}"

    def _is_free(self, key: str) -> bool:
        """Whether nobody has tried, or is trying, a baseline outside the space."""
        attributes = self.study.user_attrs
        return key not in attributes and self.drivers.is_gone(attributes.get(CLAIM + key))

    def _is_waiting(self, label: str) -> bool:
        """Whether nobody took an enqueued trial since it was seen. One driver knows that by itself."""
        return not self.drivers.shared or any(
            row.label == label and row.state == "waiting" for row in study_rows(self.study)
        )

    def is_mine(self, job: Job) -> bool:
        """Whether no other driver thought this one gone."""
        if not self.drivers.shared:
            return True
        if job.trial is None:
            return bool(self.study.user_attrs.get(CLAIM + job.key) == self.drivers.name)
        held = next((frozen for frozen in self._running() if frozen.number == job.trial.number), None)
        return held is not None and held.user_attrs.get(OWNER) == self.drivers.name

    def claimed(self) -> int:
        """Baselines outside the space that some driver has begun and not ended."""
        attributes = self.study.user_attrs
        keys = [key.removeprefix(CLAIM) for key in attributes if key.startswith(CLAIM)]
        return sum(key not in attributes for key in keys)

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

    def _baseline_job(self, index: int) -> Job:
        baseline, key = self.baselines[index], self._outside(index)
        if self.drivers.shared:
            self.study.set_user_attr(CLAIM + key, self.drivers.name)
        return Job(baseline.recipe, baseline.name, True, key=key)

    def _trial_job(self, trial: optuna.Trial) -> Job:
        if self.drivers.shared:
            trial.set_user_attr(OWNER, self.drivers.name)
        recipe = self.space.recipe(trial.params)
        return Job(recipe, label_of(trial), BASELINE in trial.user_attrs, trial=trial)
