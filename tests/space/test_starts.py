"""Starting points: within the space, lighter for what moved far, the same however a norm's last digit falls."""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from automerge.config import load_search
from automerge.merge.models import open_models
from automerge.merge.movement import Movement, movement
from automerge.space.space import SearchSpace
from automerge.space.starts import starts
from tests.tiny import fine_tune_of, tiny_llama

CONFIG = """
name: s
base: {folder}/base
sources: {{far: {folder}/far, near: {folder}/near}}
method: {method}
groups: {groups}
modules: {modules}
parameters: {parameters}
skills: {{math: gsm8k}}
objective: {{math: 1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_llama(folder / "base", seed=0, layers=4)
    fine_tune_of(folder / "base", folder / "far", seed=1, scale=0.4)
    fine_tune_of(folder / "base", folder / "near", seed=2, scale=0.1)
    return folder


def space_of(
    folder: Path,
    method: str = "dare_linear",
    groups: str = "whole",
    modules: str = "together",
    parameters: str = "{weight: [0.0, 1.5], drop: [0.0, 0.9]}",
) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(CONFIG.format(folder=folder, method=method, groups=groups, modules=modules, parameters=parameters))
    config = load_search(str(path))
    return SearchSpace(config, open_models(config.base, config.sources))


def test_movement_is_the_length_of_the_deltas(folder: Path) -> None:
    found = movement(space_of(folder).models)
    base, far = (load_file(folder / name / "model.safetensors") for name in ("base", "far"))
    for layer in range(4):
        names = [name for name in base if f".layers.{layer}." in name]
        squares = sum(float((far[name] - base[name]).double().square().sum()) for name in names)
        assert found.moved["far"][layer] == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert found.share("far") > 2 * found.share("near") > 0
    assert found.cosines["far", "near"] == pytest.approx([0.0] * 4, abs=0.1)  # drawn independently


@pytest.mark.parametrize("groups", ["whole", "layers", "{blocks: 2}", "{knots: 3}"])
@pytest.mark.parametrize("modules", ["together", "split"])
def test_starts_are_points_of_the_space(folder: Path, groups: str, modules: str) -> None:
    space = space_of(folder, groups=groups, modules=modules)
    found = starts(space, movement(space.models))
    assert set(found) == {"balanced", "balanced_dare"}
    for point in found.values():
        assert set(point) == set(space.distributions)
        assert all(
            space.distributions[name].low <= value <= space.distributions[name].high for name, value in point.items()
        )
        space.recipe(point)
    weights = {name: value for name, value in found["balanced"].items() if name.startswith("weight")}
    assert max(v for n, v in weights.items() if ".far" in n) < min(v for n, v in weights.items() if ".near" in n)


def test_what_does_not_vary_is_not_started(folder: Path) -> None:
    fixed = space_of(folder, parameters="{weight: 1.0, drop: [0.0, 0.9]}")
    assert starts(fixed, movement(fixed.models)) == {}
    plain = space_of(folder, method="task_arithmetic", parameters="{weight: [0.0, 1.5]}")
    assert set(starts(plain, movement(plain.models))) == {"balanced"}


def test_only_what_drops_at_random_is_started_with_drops(folder: Path) -> None:
    trimmed = space_of(folder, method="magnitude_linear")  # its drop is a share, of the smallest
    assert set(starts(trimmed, movement(trimmed.models))) == {"balanced"}


def test_a_last_digit_changes_nothing(folder: Path) -> None:
    space = space_of(folder)
    found = movement(space.models)
    other = Movement(
        found.base, {s: [v * (1 + 1e-9) for v in moved] for s, moved in found.moved.items()}, found.cosines
    )
    assert starts(space, found) == starts(space, other)


def test_a_source_that_did_not_move_is_weighed_plainly(folder: Path) -> None:
    space = space_of(folder)
    still = Movement([1.0] * 4, {"far": [0.0] * 4, "near": [1.0] * 4}, {("far", "near"): [0.0] * 4})
    assert starts(space, still)["balanced"]["weight.far"] == 1.0


def test_sources_that_pull_apart_weigh_less(folder: Path) -> None:
    space = space_of(folder)

    def of(cosine: float) -> dict[str, float]:
        return starts(
            space, Movement([1.0] * 4, {"far": [1.0] * 4, "near": [1.0] * 4}, {("far", "near"): [cosine] * 4})
        )["balanced"]

    assert of(-0.4)["weight.far"] == pytest.approx(0.8)
    assert of(0.4)["weight.far"] == pytest.approx(1.0)
