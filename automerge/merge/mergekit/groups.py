"""Values told tensor by tensor, as few groups that read well: runs of layers × modules, lists only where needed."""

from collections.abc import Mapping

from automerge.merge.layout import Place, place_of
from automerge.recipe import MODULES, Group, Value

Values = Mapping[str, Value]
_Key = tuple[tuple[str, object], ...]


def grouped(values: Mapping[str, Values], n_layers: int) -> tuple[Group, ...]:
    """Groups that give every tensor its values. A layer's module whose tensors differ is told by tensors."""
    keys = {tensor: _key(given) for tensor, given in values.items()}
    meaning = {keys[tensor]: given for tensor, given in values.items()}
    if len(meaning) == 1:
        return (Group((0, n_layers), "all", next(iter(meaning.values()))),)
    cells: dict[tuple[int, str], set[_Key]] = {}
    for tensor, key in keys.items():
        cells.setdefault(_cell(tensor, n_layers), set()).add(key)
    rows = [_row(cells, layer) for layer in range(n_layers)]
    groups = [Group(layers, modules, meaning[key]) for layers, modules, key in _runs(rows)]
    apart: dict[_Key, list[str]] = {}
    for tensor, key in keys.items():
        if len(cells[_cell(tensor, n_layers)]) > 1:
            apart.setdefault(key, []).append(tensor)
    return (*groups, *(_listed(tensors, meaning[key], n_layers) for key, tensors in apart.items()))


def _key(values: Values) -> _Key:
    return tuple(
        (name, tuple(sorted(value.items())) if isinstance(value, Mapping) else value)
        for name, value in sorted(values.items())
    )


def _cell(tensor: str, n_layers: int) -> tuple[int, str]:
    """Layer and module kind, where what lies outside the layers counts as in layout.group_of."""
    found: Place = place_of(tensor)
    return (found.layer if found.layer is not None else 0 if found.first else n_layers - 1), found.module


def _row(cells: Mapping[tuple[int, str], set[_Key]], layer: int) -> dict[str, _Key]:
    """Module → key of one layer; "all" where its modules agree. Modules whose tensors differ are left out."""
    found = {module: cells[layer, module] for module in MODULES if (layer, module) in cells}
    alike = {module: next(iter(keys)) for module, keys in found.items() if len(keys) == 1}
    if len(alike) == len(found) and len(set(alike.values())) == 1:
        return {"all": next(iter(alike.values()))}
    return alike


def _runs(rows: list[dict[str, _Key]]) -> list[tuple[tuple[int, int], str, _Key]]:
    """(layers, modules, key) with equal neighbours joined."""
    runs = []
    for module in (*MODULES, "all"):
        start = 0
        for layer in range(len(rows) + 1):
            before = rows[start].get(module) if start < len(rows) else None
            if layer == len(rows) or rows[layer].get(module) != before:
                if before is not None:
                    runs.append(((start, layer), module, before))
                start = layer
    return runs


def _listed(tensors: list[str], values: Values, n_layers: int) -> Group:
    cells = [_cell(tensor, n_layers) for tensor in tensors]
    layers = [layer for layer, _ in cells]
    modules = {module for _, module in cells}
    kind = next(iter(modules)) if len(modules) == 1 else "all"
    return Group((min(layers), max(layers) + 1), kind, values, tuple(tensors))
