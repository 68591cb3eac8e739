"""What a parameter's setting means for one tensor: filters, gradients over the layers, which level of the file wins.

A gradient [v_0 … v_k] is piecewise linear over t from 0 to 1, in float64; of switches and words it takes a step. t is
the layer's place in its slice, 0 at the first and 1 at the last; 1 in a slice of one layer; 0 for what lies outside the
layers. A filter fits a tensor whose name contains it; the first condition that fits counts, and where none does the
next level of the file is asked.
"""

import math
from collections.abc import Iterable, Mapping

from automerge.errors import ConfigError
from automerge.merge.mergekit.schema import Scalar, Setting
from automerge.merge.mergekit.table import Theirs

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def place(step: int | None, n_layers: int) -> float:
    """t of the layer `step` (from 0) of a slice of n layers; None stands for what lies outside the layers."""
    if step is None:
        return 0.0
    return step / (n_layers - 1) if n_layers > 1 else 1.0


def interpolate(values: list[float], t: float) -> float:
    """A gradient's value at t. A list of one number is that number."""
    scaled = t * (len(values) - 1)
    below = int(scaled)
    above = min(len(values) - 1, below + 1)
    part = scaled - below
    return (1 - part) * values[below] + part * values[above]


def resolve(
    parameter: Theirs,
    levels: Iterable[Mapping[str, Setting]],
    tensor: str,
    t: float,
    where: str,
    applied: set[int] | None = None,
) -> float | bool:
    """The value for a tensor, from the first level that has one, else the default. `applied` takes the id() of the
    condition it came from.

    Raises ConfigError for a value of the wrong kind, or where the parameter must be given and is not.
    """
    for level in levels:
        for condition in level[parameter.name].conditions if parameter.name in level else ():
            if condition.fits(tensor):
                if applied is not None:
                    applied.add(id(condition))
                return evaluate(parameter, condition.value, t, where)
    if parameter.default is None:
        hint = f"Add {parameter.name} to the parameters; a filter there must fit this tensor, or one without a filter."
        raise ConfigError(f"no value of {parameter.name} for {tensor}", where=where, hint=hint)
    return parameter.default


def evaluate(parameter: Theirs, value: Scalar | list[Scalar], t: float, where: str) -> float | bool:
    """A value, or a gradient's value at t. Raises ConfigError where it is no number, or no switch."""
    values = value if isinstance(value, list) else [value]
    if isinstance(parameter.default, bool):
        switches = [_switch(parameter, entry, where) for entry in values]
        return switches[int(t * (len(switches) - 1))]
    return interpolate([_number(parameter, entry, where) for entry in values], t)


def _number(parameter: Theirs, value: Scalar, where: str) -> float:
    if not isinstance(value, bool):
        try:
            if math.isfinite(number := float(value)):
                return number
        except (ValueError, OverflowError):  # a whole number may have more digits than any float
            pass
    raise ConfigError(f"{parameter.name}: expected a number, got {value!r}", where=where)


def _switch(parameter: Theirs, value: Scalar, where: str) -> bool:
    if isinstance(value, bool):
        return value
    found = WORDS.get(str(int(value) if isinstance(value, float) and value.is_integer() else value).lower())
    if found is None:
        raise ConfigError(f"{parameter.name}: expected true or false, got {value!r}", where=where)
    return found
