"""Starting points told by the sources themselves: what moved far is weighed less, what moved little more.

A fine-tune that moved far drowns the others where all weigh alike. With ‖δ_s‖ of each source and group of layers, and
their geometric mean m over the sources, the start weighs each source by √(m ÷ ‖δ_s‖) there: half way, in the logarithm,
between weighing all alike and having all move alike. Sources that pull against each other (a negative cosine with the
rest) are taken a little less of. A second start is the same with a third of the deltas dropped, where DARE may drop.
"""

import math

from automerge.merge.movement import Movement
from automerge.space.space import SearchSpace

DROPPED = 1 / 3


def starts(space: SearchSpace, movement: Movement) -> dict[str, dict[str, float | str]]:
    """Name → point of the space; empty where it has no weight a source that varies."""
    weights = [axis for axis in space.axes if axis.parameter == "weight" and axis.source and axis.bounds.range]
    if not weights or len(movement.moved) < 2:
        return {}
    found = {}
    for method in space.methods.values():  # each is tried once, or a sampler may never look at it
        ending = f"_{method.name}" if len(space.methods) > 1 else ""
        found[f"balanced{ending}"] = _point(space, movement, 0.0, method.name)
        if method.random and any(axis.parameter == "drop" and axis.bounds.range for axis in space.axes):
            found[f"balanced_dare{ending}"] = _point(space, movement, DROPPED, method.name)
    return found


def _point(space: SearchSpace, movement: Movement, drop: float, method: str) -> dict[str, float | str]:
    point = space.choice(method)
    for axis in space.axes:
        if axis.bounds.range is None:
            continue
        low, high = axis.bounds.range
        for label, layers, _ in axis.grid.cells():
            if axis.parameter == "weight" and axis.source:
                value = _weight(movement, axis.source, layers)
            elif axis.parameter == "drop":
                value = drop
            else:
                value = space.default(axis.parameter)
            # Rounded: the last digits of a norm depend on the machine, and a study may go on elsewhere.
            point[axis.name(label)] = min(max(round(value, 4), low), high)
    return point


def _weight(movement: Movement, source: str, layers: range) -> float:
    norms = {name: _over(moved, layers) for name, moved in movement.moved.items()}
    if not norms[source] or not all(norms.values()):
        return 1.0
    mean = math.exp(sum(map(math.log, norms.values())) / len(norms))
    against = [_mean(cosines, layers) for pair, cosines in movement.cosines.items() if source in pair]
    conflict = min(sum(against) / len(against), 0.0)
    return math.sqrt(mean / norms[source]) * (1 + conflict / 2)


def _over(values: list[float], layers: range) -> float:
    return math.sqrt(sum(values[layer] ** 2 for layer in layers))


def _mean(values: list[float], layers: range) -> float:
    return sum(values[layer] for layer in layers) / len(layers)
