"""Architectures that vLLM serves and a merge is made into: the log-probabilities are transformers' of the export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconConfig

from automerge.engine.vllm import VllmEngine
from automerge.merge import open_models
from tests.engine.vllm.conftest import FP32_MIXTURES
from tests.engine.vllm.test_weights import BOUNDS, TAILS, TEXTS, equal_to_the_bit, exported, served
from tests.merge.helpers import recipe_of
from tests.peers.pico import ARCHITECTURES, MIXTURES, SIZES, pico_base, pico_fine_tune
from tests.tiny import tiny_tokenizer

WIDE = {**SIZES, "hidden_size": 128, "max_position_embeddings": 256}
IN_CI = ("gemma3", "qwen3_moe")  # tied head, mixture; Llama is everywhere else, and each start of vLLM takes its time


def _param(name: str) -> Any:
    marks = [pytest.mark.full] * (name not in IN_CI) + [FP32_MIXTURES] * (name in MIXTURES)
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("architecture", [_param(name) for name in (*ARCHITECTURES, *MIXTURES)])
def test_it_serves_what_is_exported(architecture: str, take: Callable[..., VllmEngine], tmp_path: Path) -> None:
    base = pico_base(tmp_path / "base", architecture, WIDE)
    tuned = pico_fine_tune(base, tmp_path / "far", 1, 2.0)
    models = open_models(str(base), {"far": str(tuned)})
    engine = take(models, "float32")
    for weight in (0.9, 0.3):
        recipe = recipe_of(models, "dare_linear", {"weight": {"far": weight}, "drop": {"far": 0.2}})
        applied = engine.apply(recipe)
    shipped = exported(recipe, models, tmp_path / "out", applied.checksum)
    equal_to_the_bit(served(engine, tmp_path / "held"), shipped)

    assert mean_apart(engine, tmp_path / "out") < BOUNDS["float32"]
    engine.close()


def test_what_a_model_reorders_as_it_loads_is_reordered(take: Callable[..., VllmEngine], tmp_path: Path) -> None:
    """Falcon stores queries, keys and values by groups; its code in vLLM looks at the parameter to sort them."""
    sizes = {name: WIDE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = FalconConfig(**sizes, num_kv_heads=2, new_decoder_architecture=True, alibi=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tiny_tokenizer(tmp_path / "base", sizes["vocab_size"])
    tuned = pico_fine_tune(tmp_path / "base", tmp_path / "far", 1, 2.0)
    models = open_models(str(tmp_path / "base"), {"far": str(tuned)})
    engine = take(models, "float32")
    recipe = recipe_of(models, "linear", {"weight": {"far": 1.0}})
    exported(recipe, models, tmp_path / "out", engine.apply(recipe).checksum)
    assert mean_apart(engine, tmp_path / "out") < BOUNDS["float32"]
    engine.close()


def mean_apart(engine: VllmEngine, folder: Path) -> float:
    """|Δ log-probability| a token between what vLLM serves and transformers on a checkpoint, in fp32, mean."""
    prompts = [engine.encode(text) for text in TEXTS]
    found = engine.loglikelihood(prompts, TAILS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    apart = []
    for prompt, tail, likelihood in zip(prompts, TAILS, found, strict=True):
        tokens = engine._dialogue.continuation(tail)
        ids = torch.tensor([[*prompt.token_ids, *tokens]])
        with torch.inference_mode():
            logprobs = model(ids).logits[0].log_softmax(-1)
        wanted = [float(logprobs[len(prompt.token_ids) - 1 + i, token]) for i, token in enumerate(tokens)]
        apart += [abs(a - b) for a, b in zip(wanted, likelihood.token_logprobs, strict=True)]
    return sum(apart) / len(apart)
