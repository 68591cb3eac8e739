"""A study of sparse models with a real engine: searched, killed by nothing, proven beside dense ones, exported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from automerge.config import load_search
from automerge.errors import StudyMismatch
from automerge.export.verify import verify
from automerge.merge.sparse.rows import read_rows
from automerge.recipe import parse_recipe
from automerge.report.candidate import write_candidate
from automerge.report.page import page
from automerge.study.events import Event
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.records import study_rows
from automerge.study.session import make_plan, run_search
from automerge.study.store import open_study
from tests.peers.pico import pico_family

DENSE, SPARSE = 8, 6  # baselines, trials


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return pico_family(tmp_path_factory.mktemp("family"), "llama")


@pytest.fixture
def config(family: Mapping[str, Path], tmp_path: Path) -> Path:
    """A search over two experts of three, for a skill of likelihoods."""
    rows = [{"id": n, "prompt": f"{n} plus {n} is ", "answer": f"{2 * n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    skill = {
        "name": "sums",
        "data": {"path": "rows.jsonl", "id": "id"},
        "prompt": "{{ prompt }}",
        "target": "{{ answer }}",
        "scorer": {"type": "likelihood"},
        "items": {"search": 10, "held_out": 30},
    }
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(skill))
    data = {
        "name": "sparse",
        "base": str(family["base"]),
        "sources": {name: str(family[name]) for name in ("one", "two", "far")},
        "method": "dare_linear",
        "parameters": {"weight": [0, 1]},
        "mixture": {
            "experts": {"one": {"positive_prompts": ["1 + 1"]}, "two": "sums", "far": {"positive_prompts": ["once"]}},
            "num_experts": 2,
            "experts_per_token": [1, 2],
            "temperature": [0.1, 10],
        },
        "skills": {"sums": "sums.yaml"},
        "objective": ["sums"],
        "gates": [{"skill": "sums", "no_worse_than": "base", "margin": 0.5}],
        "engine": {"name": "transformers"},
        "racing": False,
        "verdict": {"candidates": 2},
    }
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def searched(config: Path, out: Path, trials: int) -> list[Event]:
    told: list[Event] = []
    run_search(make_plan(load_search(str(config))), StudyFolder(out), Budget(trials=DENSE + trials), told.append)
    return told


def changed(config: Path, **mixture: Any) -> Path:
    data = yaml.safe_load(config.read_text())
    data["mixture"].update(mixture)
    path = config.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(data))
    return path


def test_it_is_searched_proven_and_exported(config: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    searched(config, folder.path, 2)
    kept = folder.router.read_bytes()
    searched(config, folder.path, SPARSE)  # goes on
    assert folder.router.read_bytes() == kept
    study = open_study("sparse", folder.storage)
    rows = [row for row in study_rows(study) if not row.is_baseline]
    assert len(rows) == SPARSE and all(row.state == "complete" for row in rows)
    recipes = [parse_recipe(row.record.recipe) for row in rows if row.record]
    mixtures = [recipe.mixture for recipe in recipes if recipe.mixture is not None]
    assert len(mixtures) == SPARSE
    assert {len(mixture.experts) for mixture in mixtures} == {2} and {m.per_token for m in mixtures} <= {1, 2}
    assert len({(mixture.experts, mixture.per_token, mixture.temperature) for mixture in mixtures}) > 2
    found = read_rows(mixtures[0].router)
    assert set(found) == {"one", "two", "far"}
    for tensor in found.values():
        torch.testing.assert_close(tensor.norm(dim=-1), torch.ones(3))

    moved = StudyFolder(folder.path.rename(tmp_path / "moved"))
    row = rows[-1]
    assert row.record is not None
    written = write_candidate(tmp_path / "export", row.label, row.record, None, moved)
    assert written.checksum == row.record.checksum == verify(tmp_path / "export", {}).checksum
    card = (tmp_path / "export" / "README.md").read_text()
    assert "a token passes" in card and "of them for a token" in card and "- moe" in card
    assert not (tmp_path / "export" / "mergekit_config.yml").exists()
    from transformers import AutoModelForCausalLM

    _, told = AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    study = open_study("sparse", moved.storage)
    assert "A mixture of experts" in page(study, load_search(str(config)), moved, "automerge search")


def test_another_router_is_another_study(config: Path, tmp_path: Path) -> None:
    searched(config, tmp_path / "out", 0)
    for change in ({"temperature": 1.0}, {"gate_mode": "cheap_embed"}):
        with pytest.raises(StudyMismatch, match=r"config\.mixture"):
            searched(changed(config, **change), tmp_path / "out", 0)
    (tmp_path / "out" / "router_rows.st").unlink()
    searched(config, tmp_path / "out", 0)  # found again, the same
    other = make_plan(load_search(str(changed(config, gate_mode="random"))))
    run_search(other, StudyFolder(tmp_path / "other"), Budget(trials=DENSE), lambda event: None)
    (tmp_path / "other" / "router_rows.st").replace(tmp_path / "out" / "router_rows.st")
    with pytest.raises(StudyMismatch, match=r"router\.rows"):
        searched(config, tmp_path / "out", 0)
