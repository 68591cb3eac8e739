"""Likelihoods of answers: the right ones, whatever vLLM's prefix cache holds, and no more work than they ask for."""

from collections.abc import Callable
from typing import Any

import pytest

from automerge.config import EngineConfig
from automerge.engine.transformers import TransformersEngine
from automerge.engine.vllm import VllmEngine
from automerge.merge import Models
from automerge.records import LogLikelihood, Prompt
from tests.engine.vllm.conftest import ARGUMENTS
from tests.engine.vllm.test_weights import random_recipe

BLOCK = 128  # tokens that vLLM's prefix cache keeps together on a CPU
SHARED = tuple(3 + i % 200 for i in range(150))  # more than a block


def asked(engine: Any, rows: list[tuple[int, ...]], tails: list[tuple[int, ...]]) -> list[LogLikelihood]:
    found: list[LogLikelihood] = engine.loglikelihood([Prompt("", row) for row in rows], tails)
    return found


def near(found: list[LogLikelihood], wanted: list[LogLikelihood]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=2e-4)
        assert one.greedy == other.greedy


@pytest.mark.parametrize("step", [2048, 48])  # tokens a step: all rows at once, and rows in several pieces
def test_what_is_cached_changes_nothing(
    vllm_models: Callable[..., Models], take: Callable[..., VllmEngine], step: int
) -> None:
    models = vllm_models()
    engine = take(models, "float32", {**ARGUMENTS, "max_num_batched_tokens": step})
    other = TransformersEngine(models, EngineConfig.model_validate({"device": "cpu", "dtype": "float32"}))
    for number in (1, 3):
        recipe = random_recipe(models, number)
        assert engine.apply(recipe).checksum == other.apply(recipe).checksum
        rows = [(*SHARED, 7), (*SHARED, 9, 11), SHARED, SHARED[:3], SHARED[:40], SHARED[: BLOCK - 1], SHARED]
        tails = [(5, 6), (4,), tuple(range(20, 60)), (9, 8), SHARED[40:], (*SHARED[BLOCK - 1 : BLOCK + 2], 77), (5,)]
        wanted = asked(other, rows, tails)
        near(asked(engine, rows, tails), wanted)
        near(asked(engine, rows, tails), wanted)  # all of them are in the cache now, answers too
        near(asked(engine, rows[::-1], tails[::-1]), wanted[::-1])


def test_logits_of_the_answers_alone(vllm_models: Callable[..., Models], take: Callable[..., VllmEngine]) -> None:
    engine = take(vllm_models(), "float32")
    engine.apply(random_recipe(vllm_models(), 1))
    rows = [[*(SHARED[i:] + SHARED[:i])[:100], 5, 6, 7] for i in range(12)]
    found, logits = engine._call("counted_logits", rows, [3] * len(rows))
    assert [len(values) for values, _ in found] == [3] * len(rows)
    assert logits == len(rows) * (3 + 1)  # each answer's, and of the token that vLLM generates after it
