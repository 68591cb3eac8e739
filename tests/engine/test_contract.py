"""Every engine we ship keeps the one contract."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.engine.child import Child
from automerge.engine.fake import FakeEngine
from automerge.engine.remote import RemoteEngine
from automerge.engine.start import HOST, paths_of
from automerge.engine.transformers import TransformersEngine
from automerge.engine.turns import Turns
from automerge.errors import MergeError
from automerge.merge import Models
from automerge.recipe import Group, ModelRef, Recipe, make_recipe
from automerge.records import Sampling
from tests.engine.contract import Case, EngineContract
from tests.merge.helpers import recipe_of


class TestFakeEngine(EngineContract):
    @pytest.fixture
    def case(self) -> Case:
        def answer(recipe: Recipe, prompt: str) -> str:
            return " ".join(f"{prompt[-1]}{number}" for number in range(20))

        def logprobs(recipe: Recipe, prompt: str, continuation: str) -> list[float]:
            weights = recipe.groups[0].values["weight"]
            assert isinstance(weights, dict)
            return [math.log(weights["a"])] * len(continuation.split())

        def make() -> FakeEngine:
            return FakeEngine(answer, logprobs, context=4096)

        engine = make()

        def failing_apply() -> None:
            engine._fail[len(engine.calls)] = MergeError("scripted")
            engine.apply(self.recipe(0.5))

        return Case(engine, self.recipe(0.25), self.recipe(0.5), failing_apply, make)

    def recipe(self, weight: float) -> Recipe:
        return make_recipe(
            method="linear",
            base=ModelRef("base", "", "0" * 64),
            sources=(ModelRef("a", "", "1" * 64),),
            groups=(Group((0, 1), "all", {"weight": {"a": weight}}),),
            options={},
            dtype="float32",
            seed=0,
        )


class TestTransformersEngine(EngineContract):
    @pytest.fixture
    def case(self, family: Models, tmp_path: Path) -> Iterator[Case]:
        made: list[Engine] = []

        def make() -> Engine:
            made.append(self.make(family, tmp_path))
            return made[-1]

        def recipe(weight: float) -> Recipe:
            return recipe_of(family, "task_arithmetic", {"weight": dict.fromkeys(family.sources, weight)})

        engine = make()
        # Layer 0 is written before layer 1 overflows float16: the weights are neither the old nor the new ones.
        far = tuple(
            Group((layer, layer + 1), "all", {"weight": dict.fromkeys(family.sources, weight), "lambda": weight})
            for layer, weight in ((0, 1.0), (1, 1000.0))
        )
        broken = recipe_of(family, "task_arithmetic", groups=far, dtype="float16")
        yield Case(engine, recipe(0.25), recipe(20.0), lambda: engine.apply(broken), make)
        for each in made:
            each.close()

    def make(self, family: Models, folder: Path) -> Engine:
        return TransformersEngine(family, EngineConfig(device="cpu"))


class Interrupted(Turns):
    """The base model is asked something before every question."""

    def _own(self) -> Engine:
        if self._asked is not None:
            judge = self.base()
            judge.generate([judge.encode("so?")], Sampling(max_tokens=1))
        return super()._own()


class TestTurns(TestTransformersEngine):
    """The same where the base model has its turn before every call."""

    def make(self, family: Models, folder: Path) -> Engine:
        base = recipe_of(family, "task_arithmetic", {"weight": dict.fromkeys(family.sources, 0.0)})
        return Interrupted(super().make(family, folder), base)


@pytest.mark.full  # each of its tests starts a process
class TestRemoteEngine(TestTransformersEngine):
    """The same in a process of its own."""

    def make(self, family: Models, folder: Path) -> Engine:
        config = EngineConfig(device="cpu")
        return RemoteEngine(
            paths_of(family), config, lambda: Child(HOST, folder / "engine.log", {"OMP_NUM_THREADS": "1"})
        )
