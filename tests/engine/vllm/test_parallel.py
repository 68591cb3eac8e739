"""Two ranks merge what one does: the same checksums, each keeping its own part of the sources."""

from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.engine.vllm import VllmEngine
from automerge.merge import Models, open_models
from tests.engine.vllm.conftest import ARGUMENTS
from tests.engine.vllm.test_architectures import WIDE
from tests.engine.vllm.test_weights import BOUNDS, engines_apart, random_recipe
from tests.merge.helpers import recipe_of
from tests.peers.pico import pico_base, pico_fine_tune


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.full)])
def test_two_ranks(vllm_models: Callable[..., Models], take: Callable[..., VllmEngine], tied: bool) -> None:
    models = vllm_models(tied=tied)
    one = take(models)
    two = take(models, arguments={**ARGUMENTS, "tensor_parallel_size": 2}, residency="pinned")
    whole = sum(2 * _size(shape) for shape in models.shapes.values()) * 3  # the base and two full sources, bfloat16
    two._fit(random_recipe(models, 0))
    assert sum(two._call("held")) == whole  # before the first merge: vLLM has sized its key-value cache by now
    for number in range(4):
        recipe = random_recipe(models, number)
        assert one.apply(recipe).checksum == two.apply(recipe).checksum
        assert engines_apart(one, two) < BOUNDS["bfloat16"]
    held = [report["held"] for report in two.reports]
    assert len(held) == 2 and sum(held) == whole
    assert max(held) - min(held) <= 3 * 4 * len(models.shapes)
    two.close()


@pytest.mark.full
@pytest.mark.parametrize("architecture", ["gemma3", "qwen3_moe"])
def test_two_ranks_of_other_architectures(take: Callable[..., VllmEngine], tmp_path: Path, architecture: str) -> None:
    base = pico_base(tmp_path / "base", architecture, WIDE)
    models = open_models(str(base), {"one": str(pico_fine_tune(base, tmp_path / "one", 1, 2.0))})
    one = take(models, "float32")
    two = take(models, "float32", arguments={**ARGUMENTS, "tensor_parallel_size": 2})
    for weight in (0.5, 1.0):
        recipe = recipe_of(models, "task_arithmetic", {"weight": {"one": weight}}, dtype="float32")
        assert one.apply(recipe).checksum == two.apply(recipe).checksum
        assert engines_apart(one, two) < BOUNDS["float32"]
    one.close()
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
