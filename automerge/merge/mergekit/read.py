"""mergekit's YAML → a recipe and its open models.

The file is checked as far as it can be before any model is opened. Every parameter is then resolved for every tensor,
as mergekit would, and the values are gathered into groups. Where the two tools differ, methods get `dialect: mergekit`.
What mergekit skips in silence is refused, or noted where it is harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from automerge.errors import ConfigError, MergekitError, SourceError
from automerge.merge.check import check_recipe
from automerge.merge.mergekit.cast import BASE, Cast, cast_of
from automerge.merge.mergekit.groups import grouped
from automerge.merge.mergekit.schema import MergekitConfig, ModelName, Settings, SliceInput, parse_mergekit
from automerge.merge.mergekit.settings import evaluate, place, resolve
from automerge.merge.mergekit.table import Known, Ours, Theirs, known_method, options_of, ours
from automerge.merge.mergekit.tensors import tensors_of
from automerge.merge.mergekit.tokens import chat_template_of, tokenizer_of, vocabulary_of
from automerge.merge.models import Models, Progress, find_models
from automerge.merge.registry import Method, near
from automerge.merge.sources.lora import LoraAdapter
from automerge.merge.stack import Laid
from automerge.recipe import Group, Recipe, Setting, Slice, Value, make_recipe


@dataclass(frozen=True)
class Imported:
    """What a config says, ready to merge. `notes`: what it says that has no effect, one line each."""

    recipe: Recipe
    models: Models
    notes: tuple[str, ...]


def read_mergekit(path: Path, *, seed: int = 0, progress: Progress | None = None) -> Imported:
    """Reads a config and opens its models. Raises MergekitError, or SourceError as opening does."""
    try:
        return _read(path, seed, progress)
    except ConfigError as error:
        where = error.where or ""
        there = where if where.startswith(str(path)) else f"{path}: {where}".removesuffix(": ")
        raise MergekitError(error.message, where=there, hint=error.hint) from None


def _read(path: Path, seed: int, progress: Progress | None) -> Imported:
    where = str(path)
    config = parse_mergekit(path)
    method, known = known_method(config.merge_method, where)
    cast = cast_of(config, known, path)
    notes = _check_parameters(config, method, known, cast, where)
    tokenizer = tokenizer_of(config, cast, where)
    models = _found(config, cast, where)
    notes += _check_adapters(config, cast, models, where)
    reader = _Reader(config, method, known, cast, models, where)

    def recipe_over(models: Models) -> Recipe:
        recipe = make_recipe(
            method=method.name,
            base=models.base_ref,
            sources=models.source_refs,
            groups=groups,
            options=options,
            dtype=config.out_dtype or config.dtype or models.dtype,
            seed=seed,
            tokenizer=tokenizer,
            slices=reader.slices if not reader.plain else (),
            vocabulary=vocabulary,
            chat_template=template,
        )
        check_recipe(recipe)
        return models.sealed(recipe)

    groups, options = reader.groups(), reader.options()
    vocabulary, template = vocabulary_of(config, cast, models, where), chat_template_of(config, cast, models, where)
    models.frame(recipe_over(models))  # all that can be wrong with it is, before a weight is read
    models = models.digested(progress)
    return Imported(recipe_over(models), models, tuple(dict.fromkeys([*notes, *reader.idle()])))


# --- before any model is opened -----------------------------------------------------------------------------------


def levels_of(config: MergekitConfig) -> Iterator[tuple[str, Settings, ModelName | None]]:
    """Every `parameters` of the file: its place, what it holds, and whose it is, where a model's."""
    yield "parameters", config.parameters, None
    for number, entry in enumerate(config.models or ()):
        yield f"models[{number}].parameters", entry.parameters, entry.model
    for number, part in enumerate(config.slices or ()):
        yield f"slices[{number}].parameters", part.parameters, None
        for index, source in enumerate(part.sources):
            yield f"slices[{number}].sources[{index}].parameters", source.parameters, source.model


def _check_parameters(config: MergekitConfig, method: Method, known: Known, cast: Cast, where: str) -> list[str]:
    """Raises ConfigError for a parameter that the method lacks or reads elsewhere, or a value of the wrong kind."""
    notes = []
    for level, settings, model in levels_of(config):
        there = f"{where}: {level}"
        if settings and model is not None and cast.theta and cast.name_of(model) == BASE:
            notes.append(f"{level}: the base's own, read by no method here or in mergekit")
            continue
        for name, setting in settings.items():
            theirs = known.parameter(name)
            if theirs is None:
                names = [parameter.name for parameter in known.parameters]
                raise ConfigError(f"{method.name} has no parameter {name!r}", where=there, hint=near(name, names))
            if model is not None and not theirs.per_model:
                hint = "Move it to the parameters at the top; mergekit would skip it here."
                raise ConfigError(f"{name} is one for the merge, not one per model", where=there, hint=hint)
            for condition in setting.conditions:
                evaluate(theirs, condition.value, 0.0, there)
            if theirs.unused:
                notes.append(f"{name} has no effect in mergekit's {method.name} either")
            elif not isinstance(theirs.default, bool) and ours(method, name) is None:
                raise ConfigError(f"{name} is not supported for {method.name}", where=there)
    if any(part.residual_weight is not None for part in config.slices or ()):
        notes.append("residual_weight has no effect in mergekit either")
    return notes


# --- the models ---------------------------------------------------------------------------------------------------


def _found(config: MergekitConfig, cast: Cast, where: str) -> Models:
    """The models, found and not yet read. A SourceError for one that is not there names its place in the file."""
    try:
        return find_models(cast.base, cast.sources)
    except SourceError as error:
        entry = next((entry for entry, model in _named(config) if error.where in cast.locators_of(model)), None)
        if entry is None:
            raise
        raise SourceError(f"{error.where}: {error.message}", where=f"{where}: {entry}", hint=error.hint) from None


def _named(config: MergekitConfig) -> Iterator[tuple[str, ModelName]]:
    """Every place of the file that names a model to merge."""
    if config.base_model is not None:
        yield "base_model", config.base_model
    for level, _, model in levels_of(config):
        if model is not None:
            yield f"{level.removesuffix('.parameters')}.model", model


def _check_adapters(config: MergekitConfig, cast: Cast, models: Models, where: str) -> list[str]:
    """Raises ConfigError for a full model in an adapter's place; a note for an adapter in a model's."""
    notes = []
    for entry, model in _named(config):
        is_adapter = isinstance(models.sources.get(cast.name_of(model) or ""), LoraAdapter)
        if model.lora and not is_adapter:
            hint = f"Name the model alone, model: {model.lora_locator}, or an adapter behind the +."
            raise ConfigError(f"{model.lora_locator} is a full model, no adapter", where=f"{where}: {entry}", hint=hint)
        if is_adapter and not model.lora:
            notes.append(f"{entry}: an adapter, taken over the base; mergekit takes it as {cast.base}+{model} only")
    return notes


# --- tensor by tensor ---------------------------------------------------------------------------------------------


class _Reader:
    """Resolves the config's parameters over the tensors of open models."""

    def __init__(
        self, config: MergekitConfig, method: Method, known: Known, cast: Cast, models: Models, where: str
    ) -> None:
        self.config = config
        self.method = method
        self.known = known
        self.cast = cast
        self.models = models
        self.where = where
        self.applied: set[int] = set()  # id() of every condition that gave a value
        self.parts = self._parts()
        self.slices = tuple(
            Slice({self._name(source.model): source.layer_range for source in part.sources}) for part in self.parts
        )
        whole = (0, models.n_layers)
        everyone = {*models.sources, *([BASE] if cast.theta else [])}
        self.plain = len(self.slices) == 1 and self.slices[0].layers == dict.fromkeys(everyone, whole)
        self.tensors = self._lay_out()

    def _name(self, model: ModelName) -> str:
        name = self.cast.name_of(model)
        assert name is not None
        return name

    def _parts(self) -> list["_Part"]:
        config = self.config
        if config.slices:
            return [_Part(part.sources, [part.parameters, config.parameters]) for part in config.slices]
        layers = (0, self.models.n_layers)
        given = config.models or []
        sources = [
            SliceInput.model_construct(model=entry.model, parameters=entry.parameters, layer_range=layers)
            for entry in given
        ]
        listed = {entry.model for entry in given}
        sources += [
            SliceInput.model_construct(model=model, parameters={}, layer_range=layers)
            for model in self.cast.names
            if model not in listed
        ]
        return [_Part(sources, [config.parameters])]

    def _lay_out(self) -> dict[str, Laid]:
        options = options_of(self.method, {}, theta=self.cast.theta)
        try:
            return tensors_of(self.models, self.method, options, self.slices)
        except ConfigError as error:
            raise ConfigError(error.message, where=f"{self.where}: {error.where}", hint=error.hint) from None

    def _t(self, tensor: Laid) -> float:
        start, stop = next(iter(self.slices[tensor.part].layers.values()))
        return place(tensor.step, stop - start)

    # options

    def options(self) -> dict[str, Setting]:
        """Ours, from the switches, each of which must be the same for all tensors."""
        switches: dict[str, bool] = {}
        for theirs in self.known.parameters:
            if not isinstance(theirs.default, bool) or theirs.unused:
                continue
            found = {self._shared(theirs, name, tensor) for name, tensor in self.tensors.items()}
            if len(found) > 1:
                message = f"{theirs.name} differs between tensors; here it is one for the whole merge"
                raise ConfigError(message, where=self.where, hint="Give it one value.")
            switches[theirs.name] = bool(found.pop())
        try:
            return options_of(self.method, switches, theta=self.cast.theta)
        except ConfigError as error:
            raise ConfigError(error.message, where=self.where, hint=error.hint) from None

    def _shared(self, theirs: Theirs, name: str, tensor: Laid) -> float | bool:
        return resolve(theirs, self.parts[tensor.part].levels, name, self._t(tensor), self.where, self.applied)

    # numbers

    def groups(self) -> tuple[Group, ...]:
        """The groups of a recipe."""
        values = {name: self._values(name, tensor) for name, tensor in self.tensors.items()}
        lengths = [next(stop - start for start, stop in part.layers.values()) for part in self.slices]
        return grouped(values, sum(lengths))

    def _values(self, name: str, tensor: Laid) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for theirs in self.known.parameters:
            place = ours(self.method, theirs.name)
            if place is None or isinstance(theirs.default, bool) or self._is_default(theirs, place):
                continue
            if theirs.per_model:
                of_source = {source: self._own(theirs, place, source, tensor) for source in self.models.sources}
            else:
                shared = self._ours(theirs, place, self._shared(theirs, name, tensor))
                of_source = dict.fromkeys(self.models.sources, shared)
            values[place.name] = of_source if place.scope == "source" else next(iter(of_source.values()))
        return values

    def _is_default(self, theirs: Theirs, place: Ours) -> bool:
        given = any(theirs.name in settings for _, settings, _ in levels_of(self.config))
        default = self.method.parameter(place.name).default
        return not given and theirs.default is not None and place.turned(float(theirs.default)) == default

    def _own(self, theirs: Theirs, place: Ours, source: str, tensor: Laid) -> float:
        """A source's value; for one that has no part in the tensor, what does no harm."""
        if source not in tensor.sources:
            return 0.0 if place.name == "weight" else self.method.parameter(place.name).default
        part = self.parts[tensor.part]
        own = next(entry.parameters for entry in part.sources if self._name(entry.model) == source)
        found = resolve(theirs, [own, *part.levels], tensor.sources[source], self._t(tensor), self.where, self.applied)
        return self._ours(theirs, place, found)

    def _ours(self, theirs: Theirs, place: Ours, value: float) -> float:
        parameter = self.method.parameter(place.name)
        turned = place.turned(float(value))
        if theirs.whole and value != int(value):
            raise ConfigError(f"{theirs.name}: expected a whole number, got {value:g}", where=self.where)
        if not parameter.allows(turned):
            limits = parameter.limits
            if place.complement:
                limits = f"{'(' if parameter.below_high else '['}{1 - parameter.high:g}, {1 - parameter.low:g}]"
            raise ConfigError(f"{theirs.name}: expected {limits}, got {value:g}", where=self.where)
        return turned

    # what has no effect

    def idle(self) -> list[str]:
        """A note for every condition with a filter, or behind one that fits all, that gave no tensor its value; of what
        `options` and `groups` resolved."""
        names = {*self.tensors, *(name for tensor in self.tensors.values() for name in tensor.sources.values())}
        notes = []
        for level, settings, model in levels_of(self.config):
            if model is not None and self.cast.theta and self._name(model) == BASE:
                continue
            for parameter, setting in settings.items():
                theirs = self.known.parameter(parameter)
                if theirs is None or theirs.unused:
                    continue
                for number, condition in enumerate(setting.conditions):
                    told = condition.filter not in (None, "*") or any(c.fits("") for c in setting.conditions[:number])
                    if told and id(condition) not in self.applied:
                        why = "others come before it" if any(map(condition.fits, names)) else "it fits no tensor"
                        what = "a value" if condition.filter is None else f"the filter {condition.filter!r}"
                        notes.append(f"{level}: {parameter}: {what} has no effect: {why}")
        return notes


@dataclass(frozen=True)
class _Part:
    """A slice of the file: its models, and the levels of parameters above their own."""

    sources: list[SliceInput]
    levels: list[Settings]
