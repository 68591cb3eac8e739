"""Regressions of the search itself: studies replayed on recorded merges of the zoo must stay as good and as cheap."""

import sys
from pathlib import Path

import numpy as np
import pytest

from automerge.config import SearchConfig, validate
from automerge.merge.models import open_models
from automerge.space.space import SearchSpace
from automerge.study.finals import prove
from tests.tiny import fine_tune_of, tiny_llama

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from search import studies  # noqa: E402
from search.landscape import Landscape, fidelity  # noqa: E402
from search.replay import Replay  # noqa: E402

RECORDED = ROOT / "results" / "landscape" / "zoo.npz"
SOURCES = ("coding", "math", "writing")


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    return Landscape(RECORDED)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    """The zoo's, over models that stand for it: the landscape knows points, not weights."""
    folder = tmp_path_factory.mktemp("models")
    tiny_llama(folder / "base", seed=0)
    for seed, name in enumerate(SOURCES, start=1):
        fine_tune_of(folder / "base", folder / name, seed=seed)
    config = validate(
        SearchConfig,
        {
            "name": "replay",
            "base": str(folder / "base"),
            "sources": {name: str(folder / name) for name in SOURCES},
            "method": "dare_linear",
            "parameters": {"weight": [0.0, 1.5], "drop": [0.0, 0.9]},
            "skills": dict.fromkeys(SOURCES, "gsm8k"),
            "objective": dict.fromkeys(SOURCES, 1),
            "gates": [{"skill": name, "no_worse_than": "base", "margin": 0.02} for name in SOURCES],
        },
        "replay",
    )
    return SearchSpace(config, open_models(config.base, config.sources))


def test_the_landscape_is_large_and_true_to_merges_it_did_not_see(landscape: Landscape) -> None:
    assert len(landscape.points) >= 500
    found = fidelity(RECORDED, 40)
    assert found["items scored alike"] > 0.9
    assert found["objective, Kendall's tau"] > 0.75


def test_a_search_gets_far_on_few_tokens(landscape: Landscape, space: SearchSpace) -> None:
    way = studies.Way("tpe", starts=False)
    reached, spent, full = [], [], []
    for seed in range(4):
        replay = Replay(landscape, seed)
        curve, _, search = studies.run_study(space, replay, way, 60)
        base = replay.objective(
            next(r.record.checksum for r in search.rows() if r.label == "base" and r.record), "held_out"
        )
        reached.append(curve.held_out[-1] - base)
        spent.append(replay.tokens)
        full.append(sum(row.state == "complete" for row in search.rows()))
    assert np.mean(reached) > 0.28  # the best merges recorded are about 0.34 above the base
    assert np.mean(full) < 40 and np.mean(spent) < 40 * 1900  # of 60; one asked in full takes about 1,850


def test_nothing_is_promoted_where_nothing_is_better(landscape: Landscape, space: SearchSpace) -> None:
    best = landscape.at(dict(zip(landscape.names, (landscape.low + landscape.high) / 2, strict=True)))
    for seed in range(3):
        replay = Replay(landscape, seed, alter=studies.flat(best, seed))
        _, study, search = studies.run_study(space, replay, studies.Way("tpe", starts=False), 16)
        assert prove(study, search.space, search.baselines, replay, studies.quiet).outcome != "PROMOTED"


def test_what_is_clearly_better_is_promoted(landscape: Landscape, space: SearchSpace) -> None:
    best = landscape.at(dict(zip(landscape.names, (landscape.low + landscape.high) / 2, strict=True)))
    ahead = 3 * studies.margin_of_error(landscape, Replay.held_out_items)
    outcomes = []
    for seed in range(3):
        replay = Replay(landscape, seed, alter=studies.hill(best, ahead, seed))
        _, study, search = studies.run_study(space, replay, studies.Way("tpe", starts=False), 30)
        outcomes.append(prove(study, search.space, search.baselines, replay, studies.quiet).outcome)
    assert outcomes.count("PROMOTED") >= 2
