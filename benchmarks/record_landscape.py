"""Records the landscape that the simulated studies replay: real zoo merges, each with the score of every item.

    python benchmarks/record_landscape.py [--merges 600] [--out results/landscape/zoo.npz]

Two thirds of the points are spread over the whole space (a scrambled Sobol sequence), the rest lie around the best of
those, where a search spends its time. The file holds, for P points of D parameters and I items in all:

    names (D,)  points (P, D)  low (D,)  high (D,)
    right (P, ⌈I/8⌉) packed bits   likely (P, I) uint8, 255 is probability 1   tokens (P, I) uint8
    skill (I,) the index of each item's skill   skills (S,)   baselines (name of the first points)
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from automerge.cli.opening import open_config
from automerge.engine.base import Engine
from automerge.engine.start import start_engine
from automerge.evals.loaded import Half, LoadedSkill, prepare
from automerge.evals.run import evaluate_all
from automerge.evals.skill import load_skill
from automerge.evals.store import AnswerStore
from automerge.recipe import Recipe
from automerge.records import ItemResult
from automerge.space.baselines import baselines
from automerge.study.session import Plan, make_plan

HALVES: tuple[Half, Half] = ("search", "held_out")
NEAR = 20  # of the spread points, the best ones, around which the others lie
SPREAD = 0.12  # their standard deviation, as a share of a parameter's range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("results/landscape/zoo.npz"))
    args = parser.parse_args()
    plan = make_plan(open_config("zoo", study=None, seed=None, engine="transformers"))
    likely = {name: _likelihood_of(plan, name) for name in plan.skills}
    low, high = (np.array([getattr(d, end) for d in plan.space.distributions.values()]) for end in ("low", "high"))
    recorder = Recorder(plan, likely)
    random = np.random.default_rng(0)
    try:
        known = {b.name: b.params for b in baselines(plan.space) if b.params is not None}
        for params in known.values():
            recorder.record(list(params.values()))
        spread = (args.merges - len(known)) * 2 // 3
        for point in qmc.Sobol(len(low), rng=random).random(spread):
            recorder.record(low + point * (high - low))
        best = np.argsort(recorder.objectives())[::-1][:NEAR]
        centres = np.array(recorder.points)[best]
        while len(recorder.points) < args.merges:
            step = random.normal(scale=SPREAD, size=len(low)) * (high - low)
            recorder.record(np.clip(centres[random.integers(len(centres))] + step, low, high))
    finally:
        recorder.engine.close()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        args.out,
        names=np.array(list(plan.space.distributions)),
        points=np.array(recorder.points, dtype=np.float32),
        low=low,
        high=high,
        right=np.packbits(np.array(recorder.right), axis=1),
        likely=np.array(recorder.likely),
        tokens=np.array(recorder.tokens),
        skill=np.repeat(np.arange(len(plan.skills)), [recorder.items[name] for name in plan.skills]),
        skills=np.array(list(plan.skills)),
        baselines=np.array(list(known)),
    )
    print(f"{args.out}: {len(recorder.points)} merges, {args.out.stat().st_size / 2**20:.1f} MiB")


class Recorder:
    """Merges, asks and remembers, point by point."""

    def __init__(self, plan: Plan, likely: dict[str, LoadedSkill]) -> None:
        self.plan, self.likely_skills = plan, likely
        self.engine: Engine = start_engine(plan.models, plan.config.engine)
        self.points: list[np.ndarray] = []
        self.right: list[np.ndarray] = []
        self.likely: list[np.ndarray] = []
        self.tokens: list[np.ndarray] = []
        self.items = {name: sum(len(skill.half(half)) for half in HALVES) for name, skill in plan.skills.items()}
        self.began = time.perf_counter()

    def record(self, point: Sequence[float] | np.ndarray) -> None:
        params = dict(zip(self.plan.space.distributions, map(float, point), strict=True))
        recipe = self.plan.space.recipe(params)
        checksum = self.engine.apply(recipe).checksum
        answered = self._ask(recipe, checksum, self.plan.skills)
        likelihoods = self._ask(recipe, checksum, self.likely_skills)
        self.points.append(np.asarray(point, dtype=float))
        self.right.append(np.array([result.score.value == 1.0 for result in answered]))
        self.likely.append(np.array([round(255 * (r.score.value or 0.0)) for r in likelihoods], dtype=np.uint8))
        self.tokens.append(np.array([result.tokens for result in answered], dtype=np.uint8))
        if len(self.points) % 25 == 0:
            print(f"{len(self.points)} merges, {time.perf_counter() - self.began:.0f} s", flush=True)

    def objectives(self) -> np.ndarray:
        """The mean of the skills' shares of right answers, a point."""
        edges = np.cumsum([0, *self.items.values()])[:-1]
        means = np.add.reduceat(np.array(self.right, dtype=float), edges, axis=1) / list(self.items.values())
        return means.mean(axis=1)

    def _ask(self, recipe: Recipe, checksum: str, skills: dict[str, LoadedSkill]) -> list[ItemResult]:
        with AnswerStore() as store:  # in memory, and only for this point
            halves = [
                evaluate_all(self.engine, checksum, list(skills.values()), half, store, tokenizer=recipe.tokenizer)
                for half in HALVES
            ]
        return [result for name in skills for half in halves for result in half[name]]


def _likelihood_of(plan: Plan, name: str) -> LoadedSkill:
    """The same items in the same halves, scored by the probability of the gold answer."""
    given: Any = plan.config.skills[name]
    use = {"use": given} if isinstance(given, str) else given
    return prepare(
        load_skill({**use, "scorer": {"type": "likelihood"}}, folder=plan.config.folder, name=name), plan.config.seed
    )


if __name__ == "__main__":
    main()
