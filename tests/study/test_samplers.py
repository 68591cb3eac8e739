"""A proposal that was begun is completed as it would have been, wherever in it the process died."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from automerge.study.samplers import Sampler
from tests.study.worlds import plan_of

NAMES = ("gp", "tpe", "cmaes", "nsga2", "random", "qmc")
FINISHED = 14


class Died(Exception):
    pass


def study_of(plan_config: Path, name: str) -> Sampler:
    """A study with some finished trials, the next of which `name` proposes."""
    space = plan_of(plan_config).space
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    first = Sampler(study, space, "random")
    for number in range(FINISHED):
        trial = first.propose()
        trial.set_constraint("gates", -0.1 if number % 3 else 0.1)
        study.tell(trial, sum(trial.params.values()) - max(trial.params.values()) ** 2)
    return Sampler(study, space, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suggested", [0, 1, 3])
def test_a_proposal_is_completed_as_it_was_begun(
    world: Path, name: str, suggested: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = study_of(world, name).propose().params
    sampler, left = study_of(world, name), suggested
    suggest = optuna.Trial.suggest_float

    def dies(trial: optuna.Trial, *args: float, **more: Any) -> float:
        nonlocal left
        if not left:
            raise Died
        left -= 1
        return suggest(trial, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "suggest_float", dies)
        with pytest.raises(Died):
            sampler.propose()
    (frozen,) = sampler.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert len(frozen.params) == suggested
    again = sampler.complete(optuna.Trial(sampler.study, frozen._trial_id))
    assert again.params == expected


def test_a_proposal_half_written_is_drawn_anew(world: Path) -> None:
    expected = study_of(world, "gp").propose().params
    sampler = study_of(world, "gp")
    trial = sampler.study.ask()
    sampler.study._storage.set_trial_system_attr(trial._trial_id, "gp:relative_params:0", '{"weight.math": 0.')
    (frozen,) = sampler.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert sampler.complete(optuna.Trial(sampler.study, frozen._trial_id)).params == expected
