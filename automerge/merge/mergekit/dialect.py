"""One tensor's values in mergekit's words, also where the recipe follows the papers and the two differ.

DARE's rescaling by 1 ÷ (1 − p) is not mergekit's, but mergekit without rescaling gives it with other weights:
    without `normalize`   w' = w ÷ (1 − p)
    with it               λ' = λ ÷ (1 − p), where every source has the same p
Both have the paper's distribution. mergekit's dialect is said as it is; other methods of the papers' are refused where
they differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from automerge.errors import ConfigError
from automerge.merge.masks import drop_level, keep_rate
from automerge.merge.mergekit.table import KNOWN, ours, switches_of
from automerge.merge.registry import Method
from automerge.recipe import Setting

ByName = Mapping[str, float]


@dataclass(frozen=True)
class Said:
    """Values by mergekit's parameter names: of each source, of the merge, and the switches."""

    sources: Mapping[str, ByName]
    shared: ByName
    switches: Mapping[str, bool]


def in_mergekit(
    method: Method, options: Mapping[str, Setting], sources: Mapping[str, ByName], merge: ByName, elements: int
) -> Said:
    """`sources`, `merge`: our parameters' values for a tensor of that many elements. Raises ConfigError where
    mergekit has nothing that does the same."""
    values = method.option_values(options)
    switches = switches_of(method, options)
    if values.get("dialect") == "papers":
        if method.name in ("dare_linear", "dare_ties"):
            if values["rescale"]:
                switches["rescale"] = False
                sources, merge = _rescaled(method, bool(values["normalize"]), sources, merge)
        elif not _alike(method, sources, elements):
            hint = "Give the method the option dialect: mergekit."
            raise ConfigError(f"{method.name} as the paper has it is not mergekit's", hint=hint)
    return Said(
        {name: _theirs(method, own, per_model=True) for name, own in sources.items()},
        _theirs(method, merge, per_model=False),
        switches,
    )


def _alike(method: Method, sources: Mapping[str, ByName], elements: int) -> bool:
    """Whether the two dialects do the same, options being given. TIES: mergekit keeps one element at least."""
    if method.name == "ties":
        return not any(0 < own["density"] * elements < 1 for own in sources.values())
    return method.name == "breadcrumbs_ties"  # they have other defaults alone


def _rescaled(
    method: Method, normalize: bool, sources: Mapping[str, ByName], merge: ByName
) -> tuple[Mapping[str, ByName], ByName]:
    rates = {name: keep_rate(drop_level(own["drop"])) for name, own in sources.items()}
    if not normalize:
        return {name: {**own, "weight": own["weight"] / rates[name]} for name, own in sources.items()}, merge
    active = {rates[name] for name, own in sources.items() if own["weight"] != 0.0}
    if len(active) > 1:
        hint = "Set normalize to false, or dialect to mergekit."
        message = f"{method.name} with normalize and rescale, as the papers have it, and sources of unequal drop"
        raise ConfigError(f"{message}: mergekit has nothing like it", hint=hint)
    return sources, {**merge, "lambda": merge["lambda"] / next(iter(active), 1.0)}


def _theirs(method: Method, values: ByName, *, per_model: bool) -> dict[str, float]:
    found = {}
    for theirs in KNOWN[method.name].parameters:
        place = None if isinstance(theirs.default, bool) else ours(method, theirs.name)
        if place is not None and theirs.per_model == per_model:
            value = place.turned(values[place.name])
            found[theirs.name] = float(int(value)) if theirs.whole else value  # ours rounds down
    return found
