"""From a merge to the nearest point of another space: exact where that space is finer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automerge.config import load_search
from automerge.merge.models import Models, open_models
from automerge.recipe import MODULES
from automerge.space.nearest import nearest
from automerge.space.space import SearchSpace
from tests.tiny import fine_tune_of, tiny_llama

CONFIG = """
name: s
base: {folder}/base
sources: {{a: {folder}/a, b: {folder}/b}}
method: dare_linear
groups: {groups}
modules: {modules}
parameters: {{weight: [0.0, 1.0], drop: {{range: [0.0, 0.9], groups: whole}}, lambda: [0.5, 1.5]}}
skills: {{math: gsm8k}}
objective: {{math: 1}}
"""
KINDS = ("whole", "{blocks: 2}", "layers", "{knots: 3}")
FINER = [  # (coarse groups, fine groups), each with the modules together and split
    *((("whole", "together"), (fine, modules)) for fine in KINDS for modules in ("together", "split")),
    *((("{blocks: 2}", "together"), ("layers", modules)) for modules in ("together", "split")),
    (("{knots: 3}", "split"), ("layers", "split")),
    (("layers", "together"), ("layers", "together")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_llama(folder / "base", seed=0, layers=4)
    for seed, name in enumerate("ab", start=1):
        fine_tune_of(folder / "base", folder / name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return open_models(str(folder / "base"), {name: str(folder / name) for name in "ab"})


def space_of(folder: Path, models: Models, groups: str, modules: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(CONFIG.format(folder=folder, groups=groups, modules=modules))
    return SearchSpace(load_search(str(path)), models)


def points(space: SearchSpace) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries({name: st.floats(d.low, d.high) for name, d in space.distributions.items()})


@pytest.mark.parametrize(("coarse", "fine"), FINER, ids=str)
@given(data=st.data())
def test_a_finer_space_holds_the_same_merge(
    folder: Path, models: Models, coarse: tuple[str, str], fine: tuple[str, str], data: st.DataObject
) -> None:
    of, to = space_of(folder, models, *coarse), space_of(folder, models, *fine)
    recipe = of.recipe(data.draw(points(of)))
    found = nearest(to, recipe)
    assert found.keys() == to.distributions.keys()
    again = to.recipe(found)
    for layer in range(4):
        for module in MODULES:
            assert values(again.groups, layer, module) == pytest.approx(values(recipe.groups, layer, module), abs=1e-12)


def values(groups: object, layer: int, module: str) -> dict[str, float]:
    for group in groups:  # type: ignore[attr-defined]
        if group.layers[0] <= layer < group.layers[1] and group.modules in ("all", module):
            flat = {}
            for name, value in group.values.items():
                flat.update({f"{name}.{s}": v for s, v in value.items()} if isinstance(value, dict) else {name: value})
            return flat
    raise AssertionError((layer, module))


def test_a_coarser_space_takes_the_mean_and_keeps_its_bounds(folder: Path, models: Models) -> None:
    fine, coarse = (space_of(folder, models, groups, "together") for groups in ("layers", "{blocks: 2}"))
    point = {name: d.low for name, d in fine.distributions.items()}
    point |= {"weight.a.0-1": 0.2, "weight.a.1-2": 0.6}
    assert nearest(coarse, fine.recipe(point))["weight.a.0-2"] == pytest.approx(0.4)
    far = coarse.models
    wide = space_of(folder, far, "whole", "together")
    recipe = wide.recipe({name: d.high for name, d in wide.distributions.items()})
    assert nearest(coarse, recipe)["lambda.0-2"] == 1.5


def test_a_parameter_the_recipe_lacks_is_at_its_default(folder: Path, models: Models) -> None:
    space = space_of(folder, models, "whole", "together")
    plain = space.recipe({name: d.low for name, d in space.distributions.items()})
    other = type(plain)(**{**plain.__dict__, "groups": ()})
    assert nearest(space, other) == {"weight.a": 1.0, "weight.b": 1.0, "drop.a": 0.0, "drop.b": 0.0, "lambda": 1.0}
