"""Section `racing`: how often each stopping rule stops equal, better and worse candidates, and at what cost."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from automerge.study.race import STOPPED_EQUALS, Look, Race

Array = NDArray[np.float64]
ITEMS, BLOCK = 240, 20
SHIFTS = {"equal": 0.0, "0.05 better": 0.05, "0.15 worse": -0.15}
CHANGED = (0.1, 0.2, 0.3)  # share of items on which candidate and incumbent differ


def ours(differences: Array) -> int:
    """Items asked until race.py stops it."""
    race, look = Race({"skill": 1.0}, []), Look.over(ITEMS, ITEMS // BLOCK)
    for done in range(BLOCK, ITEMS, BLOCK):
        if look.due(done) and race.behind({"skill": differences[:done]}, {"skill": np.zeros(ITEMS)}, look):
            return done
    return ITEMS


def betting(differences: Array) -> int:
    """The anytime-valid test by betting (Waudby-Smith and Ramdas 2024), mixed over 19 fixed bets, at the same level."""
    bets = np.linspace(0.05, 0.95, 19)[:, None]
    wealth = np.exp(np.cumsum(np.log1p(-bets * differences), axis=1)).mean(axis=0)
    over = np.flatnonzero(wealth >= 1 / STOPPED_EQUALS)
    return min(-(-(int(over[0]) + 1) // BLOCK) * BLOCK, ITEMS) if len(over) else ITEMS


def wilcoxon(differences: Array, **settings: Any) -> int:
    """Optuna's WilcoxonPruner, which sees the items in blocks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner(**settings))
    incumbent = study.ask()
    for step in range(ITEMS):
        incumbent.report(0.0, step)
    study.tell(incumbent, 0.0)
    trial = study.ask()
    for done in range(BLOCK, ITEMS, BLOCK):
        for step in range(done - BLOCK, done):
            trial.report(float(differences[step]), step)
        if trial.should_prune():
            return done
    return ITEMS


RULES: dict[str, tuple[Callable[[Array], int], int]] = {  # rule, and how many times fewer candidates it is tried on
    "automerge (Pocock bound)": (ours, 1),
    "anytime-valid betting": (betting, 1),
    "WilcoxonPruner, p 0.02, from 30 items": (lambda d: wilcoxon(d, p_threshold=0.02, n_startup_steps=30), 10),
    "WilcoxonPruner, its defaults": (lambda d: wilcoxon(d), 10),
}


def measure(count: int) -> list[dict[str, Any]]:
    """A row a rule and share of changed items."""
    rows = []
    for changed in CHANGED:
        for name, (rule, fewer) in RULES.items():
            row: dict[str, Any] = {"rule": name, "changed": changed, "candidates": count // fewer}
            for what, shift in SHIFTS.items():
                random = np.random.default_rng(0)
                up, down = (changed + shift) / 2, (changed - shift) / 2
                if up < 0:
                    up, down = 0.0, -shift
                drawn = random.random((count // fewer, ITEMS))
                differences = np.where(drawn < up, 1.0, np.where(drawn < up + down, -1.0, 0.0))
                asked = np.array([rule(own) for own in differences])
                row[what] = {"stopped": float((asked < ITEMS).mean()), "cost": float(asked.mean() / ITEMS)}
            rows.append(row)
    return rows
