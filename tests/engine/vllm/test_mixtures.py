"""Mixtures that were put together here are served by a real vLLM: its log-probabilities are transformers'.

Those of one shape are merged into the engine that stands, experts, router and all.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from automerge.engine.child import Child
from automerge.engine.vllm import VllmEngine
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import open_models
from automerge.merge.sparse.rows import rows_ref, write_rows
from automerge.recipe import Mixture
from automerge.records import Sampling
from tests.engine.vllm.conftest import ARGUMENTS, FP32_MIXTURES
from tests.engine.vllm.test_architectures import WIDE, mean_apart
from tests.engine.vllm.test_weights import BOUNDS, TEXTS
from tests.merge.helpers import recipe_of
from tests.moe.conftest import described, written
from tests.peers.pico import pico_base, pico_fine_tune

pytestmark = FP32_MIXTURES


@pytest.mark.parametrize(
    ("dense", "kind"),
    [
        ("mistral", "mixtral"),
        pytest.param("qwen3", "qwen3_moe", marks=pytest.mark.full),
        pytest.param("qwen2.5", "qwen2_moe", marks=pytest.mark.full),
        pytest.param("llama", "qwen2_moe", marks=pytest.mark.full),
    ],
)
def test_vllm_serves_a_mixture(dense: str, kind: str, take: Callable[..., VllmEngine], tmp_path: Path) -> None:
    base = pico_base(tmp_path / "base", dense, WIDE)
    tuned = [pico_fine_tune(base, tmp_path / name, seed, 2.0) for seed, name in enumerate(("one", "two", "three"))]
    shared = [{"source_model": str(base), "positive_prompts": ["always"]}] if kind == "qwen2_moe" else []
    config = described(base, tuned, architecture=kind, shared_experts=shared, dtype="float32")
    written(config, tmp_path / "out")
    models = open_models(str(tmp_path / "out"), {"itself": str(tmp_path / "out")})
    engine = take(models, "float32")
    engine.apply(recipe_of(models, "linear", {"weight": {"itself": 1.0}}))
    assert mean_apart(engine, tmp_path / "out") < BOUNDS["float32"]
    answers = engine.generate([engine.encode(text) for text in TEXTS], Sampling(max_tokens=8))
    assert len(answers) == len(TEXTS) and any(answer.text for answer in answers)
    engine.close()


@pytest.mark.parametrize(
    ("dense", "kind"),
    [("mistral", "mixtral"), pytest.param("qwen3", "qwen3_moe", marks=pytest.mark.full)],
)
def test_mixtures_of_one_shape_go_into_the_engine_that_stands(
    dense: str, kind: str, take: Callable[..., VllmEngine], tmp_path: Path
) -> None:
    base = pico_base(tmp_path / "base", dense, WIDE)
    names = ("one", "two", "three")
    tuned = {name: str(pico_fine_tune(base, tmp_path / name, seed, 2.0)) for seed, name in enumerate(names)}
    models = open_models(str(base), tuned)
    generator = torch.Generator().manual_seed(0)
    width = int(models.config["hidden_size"])
    write_rows(tmp_path / "rows.st", {n: torch.randn(models.n_layers, width, generator=generator) for n in names})
    engine = take(models, "float32", residency="pinned")
    starts: list[object] = []
    held: set[int] = set()
    for number, (experts, temperature) in enumerate(
        [(("one", "two"), 1.0), (("three", "one"), 0.2), (("two", "two"), 3.0), (("one", "two"), 1.0)]
    ):
        mixture = Mixture(kind, experts, 1, rows_ref(tmp_path / "rows.st"), temperature)
        recipe = replace(recipe_of(models, "task_arithmetic", dtype="float32"), mixture=mixture)
        applied = engine.apply(recipe)
        starts.append(engine._child)
        held.add(engine.reports[0]["held"])
        out = tmp_path / str(number)
        write_checkpoint(recipe, models, out, expected_checksum=applied.checksum)
        assert mean_apart(engine, out) < BOUNDS["float32"]
    assert len(set(map(id, starts))) == 1
    assert len(held) == 1  # all experts were taken in at the start
    engine.close()


@pytest.mark.parametrize("shared", [pytest.param(0, marks=pytest.mark.full), 1])
def test_vllms_deepseek_computes_what_the_dense_model_computes(
    shared: int, plain: Callable[..., Child], tmp_path: Path
) -> None:
    """transformers 5 has no code of it; vLLM's is given equal experts, and a shared one that adds nothing."""
    base = pico_base(tmp_path / "base", "llama", WIDE)
    more = [{"source_model": str(base), "residual_scale": 0.0}] * shared
    config = described(base, [base] * 3, architecture="deepseek", shared_experts=more, dtype="float32")
    written(config, tmp_path / "out")
    child = plain(tmp_path / "out", **ARGUMENTS, dtype="float32")
    rows = [[1, 5, 9, 30, 44, 7, 8], [1, 20, 21, 22, 23, 24]]
    found = child.call("score", rows, [len(row) - 1 for row in rows], seconds=300)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    for row, (values, _) in zip(rows, found, strict=True):
        with torch.inference_mode():
            logprobs = model(torch.tensor([row])).logits[0].log_softmax(-1)
        wanted = [float(logprobs[place, token]) for place, token in enumerate(row[1:])]
        assert values == pytest.approx(wanted, abs=BOUNDS["float32"])
