"""Who proposes the next point. A fresh sampler a proposal, seeded by study seed and trial number.

So a proposal depends only on the finished trials and its own number: a study that was killed and resumed proposes what
it would have proposed. Each independent draw has a seed of its own too, because a process may die between two of them.
"""

import hashlib
import warnings

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from automerge.config import SamplerConfig
from automerge.space.space import SearchSpace


def propose(study: optuna.Study, space: SearchSpace) -> optuna.Trial:
    """Asks for the next trial, an enqueued baseline or a new point, with every parameter of the space suggested."""
    return complete(study, study.ask(), space)  # asking draws nothing yet


def complete(study: optuna.Study, trial: optuna.Trial, space: SearchSpace) -> optuna.Trial:
    """Suggests the parameters a trial still lacks: all of a new one, the rest of one whose process died."""
    _seed(study, space, trial.number, "")
    together = trial.relative_params  # drawn now, whatever the trial holds already
    for name, distribution in space.distributions.items():
        if name not in together:
            _seed(study, space, trial.number, name)
        trial.suggest_float(name, distribution.low, distribution.high)
    return trial


def _seed(study: optuna.Study, space: SearchSpace, number: int, name: str) -> None:
    digest = hashlib.sha256(f"{space.config.seed}:{number}:{name}".encode()).digest()
    study.sampler = _make(space.config.sampler, int.from_bytes(digest[:4], "little"))


def _make(config: SamplerConfig, seed: int) -> BaseSampler:
    if config.name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # multivariate
        return TPESampler(seed=seed, multivariate=True, n_startup_trials=config.startup)
