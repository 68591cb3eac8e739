"""Stacks layers: the frame of a recipe with slices, whose layer L is layer l of each model that its slice names.

    slices [{a: 0–2}, {b: 1–3}]  →  layers 0, 1 from a's 0, 1 and layers 2, 3 from b's 1, 2
What comes before the layers is ruled by the first slice's models, what comes after by the last one's. The base of a
layer is the base's own layer where the slice names the base, else that of the range its models share. Methods that
read no base may mix ranges freely; for the others such a slice is refused. It reads names, shapes and configs only.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.errors import ConfigError
from automerge.merge.frame import Frame
from automerge.merge.layout import in_order, place_of, split_layer
from automerge.merge.registry import Method, get_method, miscounted
from automerge.merge.sources.source import CPU, Source
from automerge.recipe import Recipe, Setting, Slice

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # in config.json, by architecture
NOT_BY_LAYER = ("architectures", "eos_token_id", "rope_scaling", "rope_parameters")  # whatever their length


def stacked(frame: Frame, recipe: Recipe) -> Frame:
    """The frame of the recipe's slices; `frame` itself where it has none.

    Raises ConfigError where a slice leaves a model's layers, mixes ranges that its method cannot, names fewer or more
    models than the method takes, or pairs layers of different tensors or shapes.
    """
    if not recipe.slices:
        return frame
    tensors = lay_out(frame, get_method(recipe.method), recipe.options, recipe.base.name, recipe.slices)
    depth = _depth(frame)
    if any(stop > depth for part in recipe.slices for _, stop in part.layers.values()):
        message = (
            f"config.json counts {depth} layers; what is stored beyond them, to layer {frame.n_layers - 1}, is none"
        )
        raise ConfigError(message, where="slices", hint=f"Take layers 0 to {depth - 1}; a stack leaves the others out.")
    moved = {place_of(name).layer: place_of(tensor.base).layer for name, tensor in tensors.items()}
    layers = [old for _, old in sorted((new, old) for new, old in moved.items() if new is not None and old is not None)]
    shapes = {name: tuple(frame.shapes[tensor.base]) for name, tensor in tensors.items()}
    return Frame(
        names=tuple(in_order(tensors)),
        shapes=shapes,
        n_layers=len(layers),
        config=_config(frame, layers, depth),
        base=Moved(frame.base, {name: tensor.base for name, tensor in tensors.items()}),
        sources={name: _source(frame, name, tensors) for name in frame.sources},
        takes_part={name: frozenset(tensor.sources) for name, tensor in tensors.items()},
    )


@dataclass(frozen=True)
class Laid:
    """Where one tensor of the result comes from: the base's tensor under it and each source's, by name.

    `part` counts the slices, `step` the layers in it; None outside the layers.
    """

    base: str
    sources: Mapping[str, str]
    part: int
    step: int | None


def lay_out(
    frame: Frame, method: Method, options: Mapping[str, Setting], base_name: str, slices: tuple[Slice, ...]
) -> dict[str, Laid]:
    """Every tensor of the result, by name. Raises ConfigError as `stacked` does."""
    layers: list[_Layer] = []
    for number, part in enumerate(slices):
        layers += _layers(frame, method, reads_base(method, options), base_name, part, number)
    return _tensors(frame, layers)


def reads_base(method: Method, options: Mapping[str, Setting]) -> bool:
    """Whether the base is a part of the result, as in every method of task vectors."""
    values = method.option_values(options)
    return method.reads_base and values.get("on") != "weights" and bool(values.get("with_base", True))


@dataclass(frozen=True)
class _Layer:
    """One layer of the result: the base's layer under it, and the layer of each source that has a part in it."""

    base: int
    sources: Mapping[str, int]
    part: int
    step: int

    @property
    def where(self) -> str:
        """Its slice, as errors name it."""
        return f"slices[{self.part}]"


def _layers(frame: Frame, method: Method, reads: bool, base_name: str, part: Slice, number: int) -> list[_Layer]:
    where = f"slices[{number}]"
    for name, (_, stop) in part.layers.items():
        if stop > frame.n_layers:
            message = f"{name} has {frame.n_layers} layers (0 to {frame.n_layers - 1}), got a range up to {stop}"
            raise ConfigError(message, where=where, hint="Ranges are start and stop, the stop excluded.")
    sources = {name: layers for name, layers in part.layers.items() if name != base_name}
    _check_arity(method, reads, list(sources), where)
    ranges = sorted({start for start, _ in sources.values()})
    if base_name in part.layers:
        base = part.layers[base_name][0]
    elif len(ranges) > 1 and reads:
        given = ", ".join(f"{name} {start}–{stop}" for name, (start, stop) in sorted(sources.items()))
        hint = f"Name {base_name} and its layers in the slice."
        raise ConfigError(f"{method.name} needs a base, and the ranges differ: {given}", where=where, hint=hint)
    else:
        base = ranges[0]
    length = next(stop - start for start, stop in part.layers.values())
    return [
        _Layer(base + step, {name: start + step for name, (start, _) in sources.items()}, number, step)
        for step in range(length)
    ]


def _check_arity(method: Method, reads: bool, names: list[str], where: str) -> None:
    fewest, most = method.sources
    if reads and any(parameter.name == "lambda" for parameter in method.parameters):
        fewest = 0  # no task vector at all: the base as it is
    if problem := miscounted(method.name, (fewest, most), "source", sorted(names), " in a slice"):
        raise ConfigError(problem, where=where)


def _tensors(frame: Frame, layers: list[_Layer]) -> dict[str, Laid]:
    by_layer: dict[int, list[str]] = {}
    tensors: dict[str, Laid] = {}
    for name in frame.names:
        place = place_of(name)
        if place.layer is None:
            rules = layers[0 if place.first else -1]
            tensors[name] = Laid(name, dict.fromkeys(rules.sources, name), rules.part, None)
        else:
            by_layer.setdefault(place.layer, []).append(name)
    for number, layer in enumerate(layers):
        for origin in by_layer.get(layer.base, ()):
            sources = {name: _renumbered(origin, theirs) for name, theirs in layer.sources.items()}
            for name, theirs in sources.items():
                _check_alike(frame, origin, theirs, name, layer.where)
            tensors[_renumbered(origin, number)] = Laid(origin, sources, layer.part, layer.step)
        for name, layer_number in layer.sources.items():
            if len(by_layer.get(layer_number, ())) != len(by_layer.get(layer.base, ())):
                message = f"layer {layer_number} of {name} has other tensors than layer {layer.base} of the base"
                raise ConfigError(message, where=layer.where, hint="Only layers of one make can be merged.")
    return tensors


def _check_alike(frame: Frame, ours: str, theirs: str, source: str, where: str) -> None:
    if theirs not in frame.shapes:
        message = f"{ours} is to be merged with {theirs} of {source}, which is not there"
        raise ConfigError(message, where=where, hint="Only layers of one make can be merged.")
    if tuple(frame.shapes[ours]) != tuple(frame.shapes[theirs]):
        message = f"{ours} has shape {list(frame.shapes[ours])}, {theirs} of {source} {list(frame.shapes[theirs])}"
        raise ConfigError(message, where=where, hint="Only layers of one make can be merged.")


def _renumbered(tensor: str, layer: int) -> str:
    """The tensor's name in another layer."""
    before, after = split_layer(tensor)
    return f"{before}.{layer}.{after}"


# --- models under the result's names ------------------------------------------------------------------------------


class Moved:
    """A model whose tensor `origins[name]` is offered as `name`."""

    def __init__(self, model: Source, origins: Mapping[str, str]) -> None:
        self.model = model
        self.origins = origins
        self.folder: Path = model.folder
        self.config: dict[str, Any] = model.config

    def changes(self, tensor: str) -> bool:
        """See Source."""
        return tensor in self.origins and self.model.changes(self.origins[tensor])

    def stored(self, tensor: str) -> Tensor | None:
        """See Source."""
        return self.model.stored(self.origins[tensor])

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """See Source."""
        return self.model.whole_delta(self.origins[tensor], device)


class _MovedSource(Moved):
    """A source. An adapter's delta is on its own layer l of the base: θ[l] + δ[l] is formed where the result's base is
    another layer."""

    def __init__(self, model: Source, origins: Mapping[str, str], under: Mapping[str, str], base: Source) -> None:
        super().__init__(model, origins)
        self.under = under  # the base's tensor below each
        self.base = base

    def changes(self, tensor: str) -> bool:
        """See Source."""
        return tensor in self.origins and (self._apart(tensor) or super().changes(tensor))

    def stored(self, tensor: str) -> Tensor | None:
        """See Source. fp32 where it is formed here."""
        origin = self.origins[tensor]
        stored = self.model.stored(origin) if self.model.changes(origin) else None
        if stored is not None or not self._apart(tensor):
            return stored
        base = self.base.stored(origin)
        if base is None or not self.model.changes(origin):
            return base
        return base.to(torch.float32).add(self.model.whole_delta(origin).to(base.device))

    def _apart(self, tensor: str) -> bool:
        return self.origins[tensor] != self.under[tensor]


def _source(frame: Frame, name: str, tensors: Mapping[str, Laid]) -> Source:
    source = frame.sources[name]
    origins = {tensor: part.sources[name] for tensor, part in tensors.items() if name in part.sources}
    return _MovedSource(source, origins, {tensor: part.base for tensor, part in tensors.items()}, frame.base)


# --- config.json --------------------------------------------------------------------------------------------------


def _depth(frame: Frame) -> int:
    """The layers that config.json counts: there may be more, which predict further tokens."""
    text = frame.config.get("text_config")
    configs = (frame.config, text) if isinstance(text, Mapping) else (frame.config,)
    counts = (config[key] for config in configs for key in LAYER_COUNTS if isinstance(config.get(key), int))
    return min(next(counts, frame.n_layers), frame.n_layers)


def _config(frame: Frame, layers: list[int], depth: int) -> dict[str, Any]:
    """The base's config with the new number of layers in place of `depth`, and every per-layer list taken from the
    base's layers.

    A list that transformers works out itself where a config leaves it out (which layers attend locally) is written
    down, for the pattern of a stack need not be the pattern of a model.
    """
    config = _picked(frame.config, depth, layers)
    return _filled(config, _picked(_worked_out(frame.config), depth, layers), len(layers))


def _picked(value: Any, n_layers: int, picked: list[int]) -> Any:
    """With every list of one entry a layer taken from the layers `picked`, however deep it lies."""
    if isinstance(value, Mapping):
        return {
            key: len(picked)
            if key in LAYER_COUNTS and entry == n_layers
            else entry
            if key in NOT_BY_LAYER
            else _picked(entry, n_layers, picked)
            for key, entry in value.items()
        }
    if isinstance(value, list) and len(value) == n_layers and n_layers > 1:
        return [value[layer] for layer in picked]
    return value


def _worked_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as transformers completes it; empty where it knows no such model."""
    from transformers import AutoConfig

    settings = {key: value for key, value in config.items() if key != "model_type"}
    with suppress(Exception):  # whatever transformers holds against it: the config is taken as it is
        made: dict[str, Any] = AutoConfig.for_model(str(config.get("model_type")), **settings).to_dict()
        return made
    return {}


def _filled(config: dict[str, Any], made: Mapping[str, Any], n_layers: int) -> dict[str, Any]:
    for key, value in made.items():
        if isinstance(value, list) and len(value) == n_layers and key not in config:
            if any(entry != value[0] for entry in value):
                config[key] = value
        elif isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _filled(config[key], value, n_layers)
    return config
