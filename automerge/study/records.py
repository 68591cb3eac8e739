"""What a study remembers of one candidate, and the row of the trial table made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna

from automerge.records import from_json
from automerge.study.store import BASELINE, OUTSIDE, RECORD


@dataclass(frozen=True)
class SkillMean:
    """A skill's mean over `n` scored items; `unscored` could not be scored and count nowhere.

    Of a candidate that was stopped it is an estimate for all items, made after `n` (0: by the cheap tier alone).
    """

    mean: float
    n: int
    unscored: int


def objective_of(skills: Mapping[str, SkillMean], weights: Mapping[str, float]) -> float:
    """The weighted mean of the skills that have a weight."""
    return sum(weight * skills[name].mean for name, weight in weights.items()) / sum(weights.values())


@dataclass(frozen=True)
class Record:
    """One candidate on search items: the served weights' checksum, scores, gate violations (≤ 0 is met), cost."""

    recipe: str  # recipe JSON, with paths
    checksum: str
    objective: float
    skills: dict[str, SkillMean]
    violations: dict[str, float]
    tokens: int  # generated
    seconds: dict[str, float]  # apply, engine, scoring, total
    error: str = ""
    stopped: str = ""  # why it was not asked everything; its scores are then estimates
    likelihoods: dict[str, float] = field(default_factory=dict)  # of the cheap tier, by skill

    @property
    def feasible(self) -> bool:
        return not self.error and all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True)
class Row:
    """A line of the trial table. `number` is None for a baseline outside the search space."""

    number: int | None
    label: str  # the baseline's name, or `trial N`
    state: str  # running, complete, stopped, failed, waiting
    is_baseline: bool
    params: Mapping[str, float | str] = field(default_factory=dict)
    record: Record | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ("complete", "stopped", "failed")

    @property
    def value(self) -> float | None:
        return self.record.objective if self.record and not self.record.error else None

    def to_json(self) -> dict[str, Any]:
        """As `automerge trials --json` prints it."""
        record = self.record
        return {
            "number": self.number,
            "label": self.label,
            "baseline": self.is_baseline,
            "state": self.state,
            "params": dict(self.params),
            "value": self.value,
            "feasible": record.feasible if record else None,
            "skills": {name: skill.mean for name, skill in record.skills.items()} if record else {},
            "violations": dict(record.violations) if record else {},
            "checksum": record.checksum if record else None,
            "tokens": record.tokens if record else None,
            "seconds": dict(record.seconds) if record else {},
            "error": record.error if record else "",
            "stopped": record.stopped if record else "",
            "items": {name: skill.n for name, skill in record.skills.items()} if record else {},
        }


_STATES = {"COMPLETE": "complete", "RUNNING": "running", "WAITING": "waiting", "FAIL": "failed"}


def study_rows(study: optuna.Study) -> list[Row]:
    """Everything tried so far: baselines outside the space in their order, then the trials by number."""
    outside = [
        outside_row(key.split(":", 2)[2], from_json(Record, text))
        for key, text in sorted(study.user_attrs.items())
        if key.startswith(OUTSIDE)
    ]
    return outside + [trial_row(trial, _STATES[trial.state.name]) for trial in study.get_trials(deepcopy=False)]


def outside_row(name: str, record: Record) -> Row:
    """The row of a baseline that is no point of the search space."""
    return Row(None, name, "failed" if record.error else _ended("complete", record), True, {}, record)


def trial_row(trial: "optuna.trial.FrozenTrial | optuna.Trial", state: str) -> Row:
    """The row of an Optuna trial."""
    text = trial.user_attrs.get(RECORD)
    record = from_json(Record, text) if text else None
    baseline = trial.user_attrs.get(BASELINE)
    label, state = baseline or f"trial {trial.number}", _ended(state, record)
    return Row(trial.number, label, state, baseline is not None, dict(trial.params), record)


def _ended(state: str, record: Record | None) -> str:
    """Optuna has one word for what was asked everything and what was stopped."""
    return "stopped" if state == "complete" and record is not None and record.stopped else state
