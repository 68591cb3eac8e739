"""A recipe → mergekit's YAML, which gives the same merge there; for random drops, one of the same distribution.

What mergekit has no words for is refused by name. It reads names and configs of the models, never a tensor.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from automerge.errors import ConfigError
from automerge.merge.check import check_recipe, merge_values, source_values
from automerge.merge.layout import group_of
from automerge.merge.mergekit.dialect import Said, in_mergekit
from automerge.merge.mergekit.emit import Entry, setting_of
from automerge.merge.mergekit.table import Theirs, known_method, ours
from automerge.merge.mergekit.tensors import tensors_of
from automerge.merge.models import Models
from automerge.merge.registry import get_method
from automerge.merge.sources.folder import is_adapter
from automerge.merge.stack import Laid, reads_base
from automerge.merge.vocabulary.rows import NONE
from automerge.recipe import Recipe, Slice, TokenRule


def to_mergekit(recipe: Recipe, models: Models) -> str:
    """The text of a config for mergekit-yaml. Raises ConfigError naming what mergekit cannot express."""
    check_recipe(recipe)
    if recipe.mixture is not None:
        raise ConfigError("mergekit-yaml makes no mixture of experts", hint="recipe.json says it all.")
    return _head(recipe) + _dumped(_Writer(recipe, models).config())


def _head(recipe: Recipe) -> str:
    lines = [
        f"automerge's recipe {recipe.hash[:16]} for mergekit-yaml; recipe.json says the same, exactly.",
        "The maths are fp32 with one rounding at the end, as here with dtype and out_dtype.",
    ]
    if get_method(recipe.method).random:
        lines.append("What is dropped is drawn at random: mergekit draws other masks, of the same distribution.")
    return "".join(f"# {line}\n" for line in lines)


def _dumped(config: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(_flow(config), out)
    return out.getvalue()


def _flow(value: Any) -> Any:
    """With lists of numbers on one line."""
    if isinstance(value, Mapping):
        return {key: _flow(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        listed = CommentedSeq([_flow(entry) for entry in value])
        if all(isinstance(entry, int | float) for entry in value):
            listed.fa.set_flow_style()
        return listed
    return value


@dataclass(frozen=True)
class _Part:
    """A slice: its number, its layers, and its tensors by name."""

    ranges: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, Laid]

    @property
    def n_layers(self) -> int:
        """Of the result."""
        return next(stop - start for start, stop in self.ranges.values())


class _Writer:
    """Says a recipe in mergekit's words."""

    def __init__(self, recipe: Recipe, models: Models) -> None:
        self.recipe = recipe
        self.models = models
        self.method, self.known = known_method(recipe.method, "recipe")
        self.base = recipe.base.name
        self.sources = [ref.name for ref in recipe.sources]
        self.first = self._first_of_pairs()
        self.theta = reads_base(self.method, recipe.options) and self.first is None
        self.parts = self._parts()
        self.base_model = self._base_model()
        self.lender = self._lender()

    def config(self) -> dict[str, Any]:
        """The whole file."""
        said = {name: self._say(name, tensor) for part in self.parts for name, tensor in part.tensors.items()}
        config: dict[str, Any] = {"merge_method": self.method.name}
        if self.base_model is not None:
            config["base_model"] = self._path(self.base_model)
        parts = [self._part(part, said) for part in self.parts]
        if len(parts[-1]["sources"]) > len(parts[0]["sources"]):
            message = (
                "the last slice has more models than the first: mergekit leaves some out of the final norm and head"
            )
            raise ConfigError(message, hint="Let the first slice name as many; a weight of 0 does no harm.")
        switches = next(iter(said.values())).switches
        shared = {**switches, **self._hoisted(parts)}
        if self.recipe.slices:
            config["slices"] = parts
        else:
            config["models"] = [
                {key: value for key, value in entry.items() if key != "layer_range"} for entry in parts[0]["sources"]
            ]
            shared |= parts[0].get("parameters", {})
        if shared:
            config["parameters"] = shared
        config |= {"dtype": "float32", "out_dtype": self.recipe.dtype}
        return {**config, **self._tokenizer()}

    def _first_of_pairs(self) -> str | None:
        """The first of the two sources between which slerp goes, without a part for the base; None where it goes from
        the base to one. Each slice is a merge of its own, but mergekit's have one base_model."""
        if self.recipe.method != "slerp":
            return None
        parts = [[name for name in part.layers if name != self.base] for part in self.recipe.slices] or [self.sources]
        firsts = {min(names) if len(names) == 2 else None for names in parts}
        if len(firsts) > 1:
            said = ", ".join(sorted(self.base if name is None else name for name in firsts))
            message = f"the slices' slerps begin at several models ({said}); mergekit has one base_model"
            raise ConfigError(message, hint="Merge in two steps.")
        return firsts.pop()

    # tensors

    def _parts(self) -> list[_Part]:
        recipe, models = self.recipe, self.models
        everyone = [recipe.base.name, *self.sources] if self.theta else self.sources
        slices = recipe.slices or (Slice(dict.fromkeys(everyone, (0, models.n_layers))),)
        laid = tensors_of(models, self.method, recipe.options, slices)
        return [
            _Part(part.layers, {name: tensor for name, tensor in laid.items() if tensor.part == number})
            for number, part in enumerate(slices)
        ]

    def _say(self, name: str, tensor: Laid) -> Said:
        group = group_of(self.recipe, sum(part.n_layers for part in self.parts), name)
        sources = {source: source_values(self.method, group, source) for source in tensor.sources}
        elements = math.prod(self.models.shapes.get(tensor.base, ()))
        return in_mergekit(self.method, self.recipe.options, sources, merge_values(self.method, group), elements)

    def _part(self, part: _Part, said: Mapping[str, Said]) -> dict[str, Any]:
        """A slice as mergekit has it."""
        sources: list[dict[str, Any]] = []
        names = [name for name in part.ranges if name != self.recipe.base.name]
        if self.theta and self.recipe.slices:
            base = part.ranges.get(self.recipe.base.name) or part.ranges[names[0]]
            sources.append({"model": self._path(self.recipe.base.name), "layer_range": list(base)})
        for source in sorted(names):
            entry: dict[str, Any] = {"model": self._path(source), "layer_range": list(part.ranges[source])}
            own = self._settings(part, said, source)
            sources.append({**entry, "parameters": own} if own else entry)
        shared = self._settings(part, said, None)
        return {"sources": sources, "parameters": shared} if shared else {"sources": sources}

    def _settings(self, part: _Part, said: Mapping[str, Said], source: str | None) -> dict[str, Any]:
        """The parameters of a model of the slice, or, for None, the slice's own."""
        settings: dict[str, Any] = {}
        for theirs in self.known.parameters:
            if theirs.per_model != (source is not None) or not self._is_number(theirs):
                continue
            entries = []
            for name, tensor in part.tensors.items():
                values = said[name].sources[source] if source is not None else said[name].shared
                seen = tensor.sources[source] if source is not None else name
                entries.append(Entry(seen, tensor.step, values[theirs.name]))
            if entries and any(entry.value != theirs.default for entry in entries):
                what = f"{theirs.name} of {source}" if source else theirs.name
                settings[theirs.name] = setting_of(entries, part.n_layers, what)
        return settings

    def _is_number(self, theirs: Theirs) -> bool:
        return not theirs.unused and not isinstance(theirs.default, bool) and ours(self.method, theirs.name) is not None

    def _hoisted(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """What every slice says alike, taken out of the slices."""
        first = parts[0].get("parameters", {})
        alike = {
            name: value
            for name, value in first.items()
            if len(parts) > 1
            and isinstance(value, float)
            and all(part.get("parameters", {}).get(name) == value for part in parts)
        }
        for part in parts:
            left = {name: value for name, value in part.pop("parameters", {}).items() if name not in alike}
            if left:
                part["parameters"] = left
        return alike

    # models and tokens

    def _path(self, name: str) -> str:
        """What mergekit calls the model: a path, or base+adapter."""
        refs = {ref.name: ref for ref in (self.recipe.base, *self.recipe.sources)}
        path = refs[name].path
        if not path:
            raise ConfigError(f"the recipe does not say where {name} is", hint='Add its "path".')
        if any(mark in path for mark in "+@") and Path(path).expanduser().exists():
            raise ConfigError(f"mergekit cannot read a path with + or @: {path}", hint="Rename the folder, or link it.")
        source = self.models.sources.get(name)
        if source is not None and is_adapter(source.folder):
            return f"{self._path(self.recipe.base.name)}+{path}"
        return path

    def _row(self, token: str, rule: TokenRule) -> str | dict[str, Any]:
        """The source of a token's rule."""
        if rule.model is None:
            return {"kind": "zero"}
        if rule.model == self.recipe.base.name and not self.theta:
            message = f"the base is no model of a {self.recipe.method} in mergekit, which has no row of it"
            raise ConfigError(message, where=f"vocabulary.tokens.{token}")
        path = self._path(rule.model)
        if rule.token == "":
            return path
        which = "token" if isinstance(rule.token, str) else "token_id"
        return {"kind": "model_token", "model": path, which: rule.token}

    def _tokenizer(self) -> dict[str, Any]:
        """Whose tokenizer the merge takes, unless all models speak alike and the file would be read so anyway."""
        recipe = self.recipe
        found: dict[str, Any] = {"chat_template": recipe.chat_template} if recipe.chat_template else {}
        self._check_rows()
        if recipe.vocabulary is None and recipe.tokenizer == "base" and all(map(self._speaks_as_base, self.sources)):
            return found
        source = self._path(recipe.tokenizer) if recipe.tokenizer in self.sources else recipe.tokenizer
        tokenizer: dict[str, Any] = {"source": self._base_tokenizer() if source == "base" else source}
        if recipe.vocabulary is not None and recipe.vocabulary.tokens:
            tokenizer["tokens"] = {
                token: {"source": self._row(token, rule), **({"force": True} if rule.force else {})}
                for token, rule in recipe.vocabulary.tokens.items()
            }
        if recipe.vocabulary is not None and recipe.vocabulary.pad_to_multiple_of:
            tokenizer["pad_to_multiple_of"] = recipe.vocabulary.pad_to_multiple_of
        return {"tokenizer": tokenizer, **found}

    # a base that is no θ lends config, tokenizer and rows of tokens all the same

    def _base_model(self) -> str | None:
        """The model to write as base_model: θ, or the first of a slerp's two; a base that is no θ where mergekit then
        does not merge it as one more model. Without it, mergekit takes any model for the one that lends."""
        if self.theta:
            return self.base
        if self.first is not None:
            return self.first
        if self.known.role != "input":
            return None  # a base_model would be θ
        listed = self._base_in_models()
        return self.base if listed is None and self.recipe.slices and not self._adapters() else listed

    def _lender(self) -> str:
        """The model that lends when the file is read again: the base, or a source."""
        if self.theta or self._adapters() or (self.base_model is not None and self.first is None):
            return self.base
        first = self.base_model or min(name for name in self.parts[0].ranges if name != self.base)
        return self.base if first == self._base_in_models() else first

    def _base_in_models(self) -> str | None:
        """The source that is the base's own folder."""
        folder = self.models.base.folder.resolve()
        return next((name for name in self.sources if self.models.sources[name].folder.resolve() == folder), None)

    def _adapters(self) -> bool:
        return any(is_adapter(self.models.sources[name].folder) for name in self.sources)

    def _speaks_as_base(self, name: str) -> bool:
        """Whether the source has the base's tokenizer, chat template and rows; and its ids, where it may lend them."""
        models = self.models
        alike = models.same_tokenizer("base", name) and models.rows(self.base) == models.rows(name)
        return alike and (self.lender == self.base or models.token_ids(self.base) == models.token_ids(name))

    def _base_tokenizer(self) -> str:
        """What names the base's tokenizer. Raises ConfigError where no model of the merge has it."""
        if self.theta or (self.base_model is not None and self.lender == self.base):
            return "base"
        listed = self._base_in_models()
        speaking = listed or next((name for name in self.sources if self._speaks_as_base(name)), None)
        if speaking is None and self.lender != self.base:
            message = f"the base is no model of a {self.recipe.method} in mergekit, and no model has its tokenizer"
            raise ConfigError(message, hint="Take the tokenizer of a source.")
        return "base" if speaking is None else self._path(speaking)

    def _check_rows(self) -> None:
        """Raises ConfigError where another model lends than the base, and rows of the merge would be other ones."""
        if self.lender == self.base or (row_map := self.models.row_map(self.recipe)) is None:
            return
        models = self.models
        alike = models.same_tokenizer("base", self.lender) and models.rows(self.base) == models.rows(self.lender)
        if not alike or any(
            bool(((row_map.own[name] == NONE) & (row_map.lent != NONE)).any()) for name in self.sources
        ):
            message = f"the base is no model of a {self.recipe.method} in mergekit, and lends rows of tokens here"
            raise ConfigError(message, hint="Give the models one vocabulary, or a rule for the tokens they lack.")
