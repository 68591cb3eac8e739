"""Every layer and module has exactly one value, and knots interpolate between theirs."""

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from automerge.config import Groups
from automerge.errors import ConfigError
from automerge.recipe import MODULES
from automerge.space.grid import Grid, make_grid

VALUES = st.floats(-1000, 1000)


@st.composite
def grids(draw: st.DrawFn, kinds: tuple[str, ...] = ("whole", "layers", "blocks", "knots")) -> Grid:
    n_layers = draw(st.integers(2, 40))
    kind = draw(st.sampled_from(kinds))
    count = draw(st.integers(2 if kind == "knots" else 1, n_layers))
    return make_grid(
        Groups(kind=kind, count=count), draw(st.sampled_from(("together", "split"))), n_layers, where="here"
    )


def numbered(grid: Grid) -> dict[str, float]:
    return {label: float(number) for number, label in enumerate(grid.labels())}


def test_labels() -> None:
    def labels(groups: Groups, modules: str) -> list[str]:
        return make_grid(groups, modules, 4, where="here").labels()

    assert labels(Groups(kind="whole"), "together") == [""]
    assert labels(Groups(kind="whole"), "split") == ["attention", "mlp", "rest"]
    assert labels(Groups(kind="layers"), "together") == ["0-1", "1-2", "2-3", "3-4"]
    assert labels(Groups(kind="blocks", count=2), "split") == [
        *("0-2.attention", "0-2.mlp", "0-2.rest"),
        *("2-4.attention", "2-4.mlp", "2-4.rest"),
    ]
    assert labels(Groups(kind="knots", count=3), "together") == ["knot0", "knot1", "knot2"]


def test_a_whole_model_has_one_value() -> None:
    value = make_grid(Groups(kind="whole"), "together", 5, where="here").spread({"": 0.3})
    assert {value(layer, module) for layer in range(5) for module in MODULES} == {0.3}


@given(grids(("whole", "layers", "blocks")))
@settings(deadline=None)
def test_every_layer_and_module_takes_the_value_of_the_one_cell_that_names_it(grid: Grid) -> None:
    cells = numbered(grid)
    value = grid.spread(cells)
    for layer, module in itertools.product(range(grid.n_layers), MODULES):
        covering = []
        for label in cells:
            parts = label.split(".")
            span = next((part for part in parts if "-" in part), f"0-{grid.n_layers}")
            start, stop = map(int, span.split("-"))
            kinds = [part for part in parts if part in MODULES] or list(MODULES)
            if start <= layer < stop and module in kinds:
                covering.append(label)
        assert len(covering) == 1
        assert value(layer, module) == cells[covering[0]]


@given(grids())
@settings(deadline=None)
def test_labels_are_unique_and_every_cell_counts(grid: Grid) -> None:
    labels = grid.labels()
    assert len(set(labels)) == len(labels)
    places = list(itertools.product(range(grid.n_layers), MODULES))
    zero = grid.spread(dict.fromkeys(labels, 0.0))
    assert {zero(*place) for place in places} == {0.0}
    for label in labels:
        one = grid.spread(dict.fromkeys(labels, 0.0) | {label: 1.0})
        assert any(one(*place) > 0 for place in places)


@given(grids(("blocks",)))
@settings(deadline=None)
def test_blocks_are_about_equal(grid: Grid) -> None:
    spans = [tuple(map(int, anchor.split("-"))) for anchor in grid.anchors]
    assert len(spans) == grid.groups.count
    sizes = [stop - start for start, stop in spans]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 2
    assert [0, *(stop for _, stop in spans)] == [*(start for start, _ in spans), grid.n_layers]


@given(grids(("knots",)), st.data())
@settings(deadline=None)
def test_knots_interpolate_linearly_and_hit_their_ends(grid: Grid, data: st.DataObject) -> None:
    cells = {label: data.draw(VALUES) for label in grid.labels()}
    value = grid.spread(cells)
    last = grid.groups.count - 1
    for module in MODULES:
        ending = f".{module}" if len(grid.modules) > 1 else ""
        knots = [cells[f"knot{index}{ending}"] for index in range(last + 1)]
        assert value(0, module) == knots[0]
        assert value(grid.n_layers - 1, module) == pytest.approx(knots[-1], abs=1e-9)
        for layer in range(grid.n_layers):
            position = layer * last / (grid.n_layers - 1)
            wanted = sum(knot * max(0.0, 1 - abs(position - index)) for index, knot in enumerate(knots))
            assert value(layer, module) == pytest.approx(wanted, abs=1e-9)


@given(grids(), VALUES)
@settings(deadline=None)
def test_equal_cells_are_one_value_to_the_bit(grid: Grid, number: float) -> None:
    value = grid.spread(dict.fromkeys(grid.labels(), number))
    assert {value(layer, module) for layer in range(grid.n_layers) for module in MODULES} == {number}


@given(grids(("knots",)), st.data())
@settings(deadline=None)
def test_knots_stay_inside_hard_limits(grid: Grid, data: st.DataObject) -> None:
    """A density of 1 + 2⁻⁵² would be refused by the merge, in the middle of a study."""
    cells = {label: data.draw(st.floats(0, 1)) for label in grid.labels()}
    assume(len(set(cells.values())) > 1)
    value = grid.spread(cells)
    assert all(0 <= value(layer, module) <= 1 for layer in range(grid.n_layers) for module in MODULES)


@pytest.mark.parametrize("kind", ["blocks", "knots"])
def test_more_than_the_layers(kind: str) -> None:
    assert make_grid(Groups(kind=kind, count=4), "together", 4, where="x").labels()
    with pytest.raises(ConfigError, match=f"^parameters.weight: {kind}: 5 asked for, but the model has 4 layers$"):
        make_grid(Groups(kind=kind, count=5), "together", 4, where="parameters.weight")
