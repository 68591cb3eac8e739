"""vLLM keeps the contract of every engine."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from automerge.engine.vllm import VllmEngine
from automerge.merge import Models
from automerge.recipe import Group, Recipe
from tests.engine.contract import Case, EngineContract
from tests.merge.helpers import recipe_of


class TestVllmEngine(EngineContract):
    @pytest.fixture
    def case(self, vllm_models: Callable[..., Models], take: Callable[..., VllmEngine]) -> Case:
        models = vllm_models(vocab=64)  # letters alone: the contract cuts answers at pieces of them

        def recipe(weight: float) -> Recipe:
            return recipe_of(models, "task_arithmetic", {"weight": dict.fromkeys(models.sources, weight)})

        engine = take(models, "float32")
        # Layer 0 is written before layer 1 overflows float16.
        far = tuple(
            Group((layer, layer + 1), "all", {"weight": dict.fromkeys(models.sources, weight), "lambda": weight})
            for layer, weight in ((0, 1.0), (1, 1000.0))
        )
        broken = recipe_of(models, "task_arithmetic", groups=far, dtype="float16")
        return Case(engine, recipe(0.25), recipe(2.0), lambda: engine.apply(broken), lambda: take(models, "float32"))


def test_the_installed_one_has_what_is_called() -> None:
    """Looked up for real: the names in vllm_version.NEEDED are vLLM's."""
    code = "import vllm; from automerge.engine.vllm_version import _missing; print(_missing())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
