"""Two ranks merge what one does: the same checksums, each keeping its own part of the sources."""

from collections.abc import Callable

import pytest

from automerge.engine.vllm import VllmEngine
from automerge.merge import Models
from tests.engine.vllm.conftest import ARGUMENTS
from tests.engine.vllm.test_weights import BOUNDS, TAILS, TEXTS, random_recipe


def test_two_ranks(vllm_models: Callable[..., Models], take: Callable[..., VllmEngine]) -> None:
    models = vllm_models()
    one = take(models)
    two = take(models, arguments={**ARGUMENTS, "tensor_parallel_size": 2}, residency="pinned")
    whole = sum(2 * _size(shape) for shape in models.shapes.values()) * 3  # the base and two full sources, bfloat16
    two._fit(random_recipe(models, 0))
    assert sum(two._call("held")) == whole  # before the first merge: vLLM has sized its key-value cache by now
    for number in range(4):
        recipe = random_recipe(models, number)
        assert one.apply(recipe).checksum == two.apply(recipe).checksum
        found = [e.loglikelihood([e.encode(t) for t in TEXTS], TAILS) for e in (one, two)]
        apart = [
            abs(a - b)
            for first, second in zip(*found, strict=True)
            for a, b in zip(first.token_logprobs, second.token_logprobs, strict=True)
        ]
        assert sum(apart) / len(apart) < BOUNDS["bfloat16"]
    held = [report["held"] for report in two.reports]
    assert len(held) == 2 and sum(held) == whole
    assert max(held) - min(held) <= 3 * 4 * len(models.shapes)
    two.close()


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for length in shape:
        n *= length
    return n


@pytest.mark.parametrize("key", ["pipeline_parallel_size", "data_parallel_size"])
def test_other_ways_to_several_ranks_are_refused(key: str) -> None:
    from automerge.config import EngineConfig, validate
    from automerge.errors import ConfigError

    with pytest.raises(ConfigError, match=rf"{key}: a merge is spread over tensor_parallel_size ranks only"):
        validate(EngineConfig, {"name": "vllm", "arguments": {key: 2}}, "engine")
