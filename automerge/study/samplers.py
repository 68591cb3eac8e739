"""Who proposes the next point. A fresh sampler a proposal, seeded by study seed and trial number.

So a proposal depends only on the finished trials and its own number: a study that was killed and resumed proposes what
it would have proposed. Each independent draw has a seed of its own too, because a process may die between two of them.

What each is told of a candidate: its objective (or objectives), and in Optuna's constraint how far gates are broken.
Of a stopped candidate these are estimates on the same scale, and it is told as complete: GP and CMA-ES pass over
pruned trials, and would propose the same again. CMA-ES knows no constraints; it is told the objective less the
violation.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from automerge.config import SamplerName, SearchConfig
from automerge.space.space import SearchSpace
from automerge.study.records import Record
from automerge.study.store import SAMPLER

GP_DIMENSIONS, GP_TRIALS = 32, 200  # beyond either a proposal of the Gaussian process costs seconds
_DRAWN = "gp:relative_params:"  # where Optuna keeps what it drew for a trial, in parts that are numbered
EVOLVED_TRIALS = 1000  # from which on a population is worth its generations


@dataclass(frozen=True)
class Sampler:
    """The sampler of one study."""

    study: optuna.Study
    space: SearchSpace
    name: SamplerName
    width: int = 1  # candidates that are tried at a time

    @classmethod
    def of(cls, study: optuna.Study, space: SearchSpace, budget: int | None, width: int) -> "Sampler":
        """The config's, or for `auto` the one chosen at the study's first run: a larger budget later keeps it."""
        held = study.user_attrs.get(SAMPLER)
        name: SamplerName = held or choose(space.config, len(space.distributions), budget)
        if held is None:
            study.set_user_attr(SAMPLER, name)
        return cls(study, space, name, width)

    def propose(self) -> optuna.Trial:
        """Asks for the next trial, an enqueued one or a new point, with every parameter of the space suggested."""
        return self.complete(self.study.ask())  # asking draws nothing yet

    def complete(self, trial: optuna.Trial) -> optuna.Trial:
        """Suggests the parameters a trial still lacks: all of a new one, the rest of one whose process died."""
        self._seed(trial.number, "")
        with _silence():
            together = trial.relative_params  # drawn now, whatever the trial holds already
        for name, distribution in self.space.distributions.items():
            if name not in together:
                self._seed(trial.number, name)
            if isinstance(distribution, CategoricalDistribution):
                trial.suggest_categorical(name, distribution.choices)
            else:
                trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        return trial

    def tell(self, trial: optuna.Trial, record: Record) -> None:
        """Ends a trial that was recorded."""
        with _silence():
            if record.error:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.study.tell(trial, self._told(record))

    def _told(self, record: Record) -> float | list[float]:
        """The value, or values, of a finished candidate."""
        if objectives := self.space.config.objectives:
            return [record.skills[name].mean for name in objectives]
        broken = sum(amount for amount in record.violations.values() if amount > 0)
        return record.objective - (broken if self.name == "cmaes" else 0.0)

    def _seed(self, number: int, name: str) -> None:
        seed = self.space.config.seed
        digest = hashlib.sha256(f"{seed}:{number}:{name}".encode()).digest()
        with _silence():
            self.study.sampler = self._make(int.from_bytes(digest[:4], "little"), number)

    def _make(self, seed: int, number: int) -> BaseSampler:
        startup = self.space.config.sampler.startup
        if self.name == "random":
            return RandomSampler(seed=seed)
        if self.name == "qmc":
            return _NumberedQMC(self.space.config.seed, number)
        if self.name == "gp":
            return _ResumableGP(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if self.name == "cmaes":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
        if self.name == "nsga2":
            return NSGAIISampler(seed=seed)
        if self.name == "nsga3":
            return NSGAIIISampler(seed=seed)
        # constant_liar: a point that is being tried counts as a bad one, so that others are not laid beside it
        return TPESampler(seed=seed, multivariate=True, n_startup_trials=startup, constant_liar=self.width > 1)


@contextmanager
def _silence() -> Iterator[None]:
    """Of what is experimental in Optuna, and of what is said above of CMA-ES and constraints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Constraints have been set")
        yield


def choose(config: SearchConfig, dimensions: int, budget: int | None) -> SamplerName:
    """The config's sampler; for `auto` the one that does best within such a budget of trials (None: of time)."""
    if config.sampler.name != "auto":
        return config.sampler.name
    if budget is not None and budget >= EVOLVED_TRIALS:
        return "nsga2" if config.objectives else "cmaes"
    if config.objectives or dimensions > GP_DIMENSIONS or (budget or 0) > GP_TRIALS:
        return "tpe"
    return "gp"


class _ResumableGP(GPSampler):  # type: ignore[misc]
    """Gives a trial whose process died what was drawn for it: Optuna's would count it among those that others are
    trying, and draw away from it."""

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        kept = {key: value for key, value in trial.system_attrs.items() if key.startswith(_DRAWN)}
        if kept:
            text = "".join(kept[key] for key in sorted(kept, key=lambda key: int(key.removeprefix(_DRAWN))))
            with suppress(ValueError):
                drawn: dict[str, Any] = json.loads(text)
                return drawn
            for key in kept:  # the process died between two parts
                study._storage.set_trial_system_attr(trial._trial_id, key, "")
        found: dict[str, Any] = super().sample_relative(study, trial, search_space)
        return found


class _NumberedQMC(QMCSampler):  # type: ignore[misc]
    """The point of a scrambled Sobol sequence that has the trial's number: Optuna's counts its own calls, so that a
    process that died between two steps would skip a point."""

    def __init__(self, seed: int, number: int) -> None:
        super().__init__(scramble=True, seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False)
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: Mapping[str, BaseDistribution]) -> int:
        return self._number
