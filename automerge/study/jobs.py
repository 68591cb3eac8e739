"""A candidate on its way, and how many may be on theirs."""

from dataclasses import dataclass

import optuna

from automerge.recipe import Recipe
from automerge.study.climb import Watching
from automerge.study.store import BASELINE, RECORD
from automerge.study.trial import Trial


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
class Job:
    """What a candidate is, and what became of it."""

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


def label_of(trial: optuna.Trial) -> str:
    """A baseline's name, else its number."""
    return str(trial.user_attrs.get(BASELINE, f"trial {trial.number}"))
