"""Sections `tokens` and `promotion`: whole studies replayed on the recorded landscape."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from automerge.config import SearchConfig, validate
from automerge.merge.movement import Movement, movement
from automerge.space.space import SearchSpace
from automerge.space.starts import starts
from automerge.study.events import Event
from automerge.study.finals import prove
from automerge.study.jobs import Budget
from automerge.study.loop import Search
from search.landscape import Landscape, Scored
from search.replay import Replay, new_study

NEVER = float("inf")


@dataclass(frozen=True)
class Way:
    """A way to search: with our baselines, racing and tier, or a bare sampler with full evaluation of every point."""

    sampler: str = "auto"
    racing: bool = True
    tier: bool = True
    starts: bool = True
    bare: bool = False


PEERS = {
    "CMA-ES, all items": Way("cmaes", racing=False, tier=False, bare=True),
    "random, all items": Way("random", racing=False, tier=False, bare=True),
}
OURS = {
    "automerge": Way(),
    "automerge, tpe": Way("tpe"),
    "automerge, tpe, no tier": Way("tpe", tier=False),
    "automerge, tpe, no racing and no tier": Way("tpe", racing=False, tier=False),
    "automerge, tpe, no starts": Way("tpe", starts=False),
}


@dataclass(frozen=True)
class Curve:
    """What a study knew after so many generated tokens: the held-out score of the best it had asked in full."""

    tokens: list[int]
    held_out: list[float]

    def reaches(self, score: float) -> float:
        """Tokens until that score."""
        return next((float(t) for t, s in zip(self.tokens, self.held_out, strict=True) if s >= score), NEVER)

    def at(self, tokens: float) -> float:
        """The score known by then."""
        return next(
            (s for t, s in zip(reversed(self.tokens), reversed(self.held_out), strict=True) if t <= tokens), 0.0
        )


def config_of(space: SearchSpace, way: Way, seed: int) -> SearchConfig:
    """The space's config with a study's seed and way to search; no gates for the bare ones, which know none."""
    data = space.config.model_dump() | {
        "seed": seed,
        "sampler": {"name": way.sampler},
        "racing": way.racing,
        "tiers": ["likelihood"] if way.tier else [],
    }
    return validate(SearchConfig, data | ({"gates": []} if way.bare else {}), "replay")


def quiet(event: Event) -> None:
    """Nobody watches."""


def run_study(space: SearchSpace, replay: Replay, way: Way, trials: int) -> tuple[Curve, optuna.Study, Search]:
    """One study of so many trials, and what it knew when."""
    config = config_of(space, way, replay.seed)
    own = SearchSpace(config, space.models)
    study = new_study()
    told = starts(own, _movement(space)) if way.starts and not way.bare else {}
    search = Search(study, own, replay, quiet, lambda: told)
    if way.bare:
        search.baselines = []
    search.run(Budget(trials=trials))
    best, curve = -1.0, Curve([], [])
    finished = {row.record.checksum: row.record for row in search.rows() if row.record}
    for tokens, checksum in replay.asked:
        record = finished[checksum]
        if not record.stopped and record.feasible and record.objective > best:
            best = record.objective
            curve.tokens.append(tokens)
            curve.held_out.append(replay.objective(checksum, "held_out"))
    return curve, study, search


@cache
def _movement(space: SearchSpace) -> Movement:
    return movement(space.models)


def tokens_of(landscape: Landscape, space: SearchSpace, seed: int, peer_trials: int, our_trials: int) -> dict[str, Any]:
    """One repetition: each way's curve on the same items."""
    found: dict[str, Any] = {"seed": seed}
    for name, way in {**PEERS, **OURS}.items():
        replay = Replay(landscape, seed, has_tier=way.tier)
        curve, *_ = run_study(space, replay, way, peer_trials if way.bare else our_trials)
        found[name] = {"tokens": curve.tokens, "held_out": curve.held_out, "spent": replay.tokens}
    return found


def summary(repetitions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each of our ways against each peer: tokens to the peer's final held-out score, and the score at equal tokens."""
    rows = []
    for ours in OURS:
        for peer in PEERS:
            ratios, scores, ahead = [], [], []
            for repetition in repetitions:
                theirs = Curve(repetition[peer]["tokens"], repetition[peer]["held_out"])
                own = Curve(repetition[ours]["tokens"], repetition[ours]["held_out"])
                target = theirs.held_out[-1]
                ratios.append(own.reaches(target) / repetition[peer]["spent"])
                equal = min(repetition[peer]["spent"], repetition[ours]["spent"])
                scores.append(own.at(equal))
                ahead.append(own.at(equal) - theirs.at(equal))
            rows.append(
                {
                    "way": ours,
                    "against": peer,
                    "tokens, share of the peer's": quartiles(ratios),
                    "reached": float(np.mean(np.isfinite(ratios))),
                    "held-out score ahead at equal tokens": quartiles(ahead),
                    "held-out score": quartiles(scores),
                }
            )
    return rows


def quartiles(values: list[float]) -> list[float]:
    return [float(q) for q in np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf")]


# --- promotion: truths of which it is known whether a candidate is better -------------------------------------------


def flat(best: Scored, seed: int) -> Any:
    """No point is better: every one has the chances of the best baseline, and luck of its own on every item."""

    def alter(checksum: str, params: Mapping[str, float], scored: Scored) -> Scored:
        return _drawn(best, 0.0, seed, checksum)

    return alter


def hill(best: Scored, ahead: float, seed: int) -> Any:
    """Points around a place of their own are better than the best baseline by `ahead`; from there it falls off evenly,
    by `ahead` at the baseline that is nearest, which so is the best."""
    place = np.random.default_rng(seed).uniform(0.35, 0.65, 6)

    def distance(unit: Any) -> float:
        return float(np.sqrt(np.mean((np.asarray(unit) - place) ** 2)))

    nearest = min(map(distance, _BASELINES))
    top = 0.6 * nearest

    def alter(checksum: str, params: Mapping[str, float], scored: Scored) -> Scored:
        unit = [value / (1.5 if name.startswith("weight") else 0.9) for name, value in params.items()]
        shift = ahead * (1 - max(distance(unit) - top, 0.0) / (nearest - top))
        return _drawn(best, max(shift, -0.2), seed, checksum)

    return alter


_W = 1 / 1.5  # weight 1 as a share of its range
_BASELINES = [
    [0, 0, 0, 0, 0, 0],
    *([_W * (source == own) for own in range(3)] + [0, 0, 0] for source in range(3)),
    [_W / 3] * 3 + [0, 0, 0],
    [_W] * 3 + [0, 0, 0],
    [_W] * 3 + [0.5 / 0.9] * 3,
    [_W] * 3 + [1, 1, 1],
]


def _drawn(best: Scored, shift: float, seed: int, checksum: str) -> Scored:
    """Item scores with a chance each: a fixed one of the item, moved by `shift`; a third of them drawn anew a point."""
    items = np.random.default_rng(seed)
    chances = np.clip(np.where(best.right > 0, 0.75, 0.25) + shift, 0.0, 1.0)
    common = items.random(len(chances))
    own = np.random.default_rng(int(checksum[:12], 16))
    luck = np.where(own.random(len(chances)) < 1 / 3, own.random(len(chances)), common)
    return Scored((luck < chances).astype(float), np.clip(best.likely + shift / 2, 0, 1), best.tokens)


def verdict_of(space: SearchSpace, replay: Replay, trials: int) -> str:
    """The outcome of a whole study."""
    _, study, search = run_study(space, replay, Way(), trials)
    return prove(study, search.space, search.baselines, replay, quiet).outcome


def margin_of_error(landscape: Landscape, held_out: int) -> float:
    """Half the 95% interval of a paired difference between two candidates of `_drawn`, on so many items a skill."""
    best = landscape.at(dict(zip(landscape.names, (landscape.low + landscape.high) / 2, strict=True)))
    one, two = (_drawn(best, 0.0, 0, checksum * 16).right for checksum in ("1a", "2b"))
    return float(1.96 * (one - two).std() / np.sqrt(held_out * len(landscape.skills)))


def space_of(path: Path) -> SearchSpace:
    """The zoo's search space, without gates other than its own."""
    from automerge.cli.opening import open_config
    from automerge.study.session import make_plan

    return make_plan(open_config("zoo", study=None, seed=None, engine="transformers")).space
