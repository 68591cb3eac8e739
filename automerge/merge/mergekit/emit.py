"""A parameter's values, tensor by tensor → a setting of mergekit's that gives exactly them: settings.py, the other way.

Tried in this order: one number; for each kind of tensor a number or a gradient of one point a layer, told by filters,
and filters by name where that is not exact; filters by name alone. What is found is read back before it is believed.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from automerge.errors import ConfigError
from automerge.merge.layout import split_layer
from automerge.merge.mergekit.schema import Setting
from automerge.merge.mergekit.settings import place, resolve
from automerge.merge.mergekit.table import Theirs

Plain = float | list[float]  # a condition's value
Conditions = list[tuple[str, Plain]]  # (filter, "" for none; value), in their order


@dataclass(frozen=True)
class Entry:
    """A value of one tensor: its `name` as the filter sees it, and its layer in the slice, None outside the layers."""

    name: str
    step: int | None
    value: float


def setting_of(entries: list[Entry], n_layers: int, what: str) -> object:
    """What to write: a number, a list, or a list of {filter, value}. Raises ConfigError where nothing gives it."""
    for conditions in (_constant(entries), _by_kind(entries, n_layers), _by_name(entries)):
        if conditions is not None and not _wrong(conditions, entries, n_layers):
            return _written(_applying(conditions, entries))
    raise ConfigError(f"{what}: mergekit's filters cannot tell these tensors apart")


def _applying(conditions: Conditions, entries: list[Entry]) -> Conditions:
    """Without the filters that others before them make idle."""
    first = {next(place for place, (word, _) in enumerate(conditions) if word in entry.name) for entry in entries}
    return [condition for place, condition in enumerate(conditions) if place in first or not condition[0]]


def _written(conditions: Conditions) -> object:
    if len(conditions) == 1 and not conditions[0][0]:
        return conditions[0][1]
    return [{"filter": word, "value": value} if word else {"value": value} for word, value in conditions]


def _wrong(conditions: Conditions, entries: list[Entry], n_layers: int) -> set[str]:
    """The tensors that the conditions give another value, or none."""
    theirs = Theirs("value", None)
    level = {"value": Setting.model_validate(_written(conditions))}
    wrong = set()
    for entry in entries:
        try:
            found = resolve(theirs, [level], entry.name, place(entry.step, n_layers), "")
        except ConfigError:
            found = None
        if found != entry.value:
            wrong.add(entry.name)
    return wrong


def _constant(entries: list[Entry]) -> Conditions:
    return [("", entries[0].value)]


def _most_common(values: Iterable[object]) -> object:
    return Counter(values).most_common(1)[0][0]


def _by_kind(entries: list[Entry], n_layers: int) -> Conditions | None:
    """Each kind of tensor (what follows the layer's number) has a number or gradient of its own."""
    by_kind: dict[str, dict[int, float]] = {}
    for entry in entries:
        if entry.step is not None:
            by_kind.setdefault(split_layer(entry.name)[1], {})[entry.step] = entry.value
    if not by_kind or any(len(values) != n_layers for values in by_kind.values()):
        return None
    courses = {kind: tuple(values[step] for step in range(n_layers)) for kind, values in by_kind.items()}
    outer = {(entry.value,) * n_layers for entry in entries if entry.step is None} & set(courses.values())
    usual = outer.pop() if len(outer) == 1 else _most_common(courses.values())
    conditions: Conditions = []
    for course in dict.fromkeys(courses.values()):
        if course != usual:
            kinds = [kind for kind in courses if courses[kind] == course]
            conditions += [(word, _course(course)) for word in _words(kinds, list(courses))]
    assert isinstance(usual, tuple)
    conditions.append(("", _course(usual)))
    return _told(entries, _wrong(conditions, entries, n_layers)) + conditions


def _course(values: tuple[float, ...]) -> Plain:
    return values[0] if len(set(values)) == 1 else list(values)


def _words(kinds: list[str], every: list[str]) -> list[str]:
    """Filters for these kinds: a module's name where all of the module is meant, else the kinds themselves."""
    words = []
    for kind in kinds:
        module = kind.partition(".")[0]
        whole = all(other in kinds for other in every if module in other)
        words.append(module if whole else kind)
    return list(dict.fromkeys(words))


def _by_name(entries: list[Entry]) -> Conditions:
    """Every tensor that is not as most are is told by name."""
    usual = _most_common(entry.value for entry in entries)
    assert isinstance(usual, float)
    return [*_told(entries, {entry.name for entry in entries if entry.value != usual}), ("", usual)]


def _told(entries: list[Entry], wrong: set[str], depth: int = 0) -> Conditions:
    """Conditions for the tensors that are `wrong`, by the shortest beginnings of names that mean one value."""
    if not any(entry.name in wrong for entry in entries):
        return []
    parts = entries[0].name.split(".")
    if len({entry.value for entry in entries}) == 1:
        return [(".".join(parts[:depth]) + ("." if depth < len(parts) else ""), entries[0].value)]
    children: dict[str, list[Entry]] = {}
    for entry in entries:
        children.setdefault(".".join(entry.name.split(".")[: depth + 1]), []).append(entry)
    return [condition for inside in children.values() for condition in _told(inside, wrong, depth + 1)]
