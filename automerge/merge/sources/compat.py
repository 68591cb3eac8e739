"""Whether a full checkpoint fits the base: architecture, tensor names and shapes. Nothing is skipped in silence.

Names and shapes must be equal, with two exceptions.
- The number of rows of embeddings and head, one a token, may differ; the tokenizers say which row is which
  (merge/vocabulary/rows.py).
- A head may be tied to the embedding in one model and not in another. Where config.json ties them (or is silent, and
  there is no head), a stored `lm_head.weight` is a copy of the embedding: it is left out if it equals it bit for bit,
  else the model is refused, for it says two things. A source's head that is not tied but equals its embedding is left
  out where the base's is tied. What a merge of tied and untied models gives is said in merge/models.py.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from automerge.errors import SourceError
from automerge.merge.embeddings import HEAD, input_of, is_tied, row_tensors, rows_of
from automerge.merge.layout import count_layers, place_of, split_layer
from automerge.merge.sources.checkpoint import Checkpoint

Shapes = dict[str, tuple[int, ...]]

HEADS = ("num_attention_heads", "num_key_value_heads", "head_dim")
COMPUTED = (
    "hidden_act",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "sliding_window",
    "max_position_embeddings",
)


def merged_shapes(model: Checkpoint, base: Checkpoint) -> Shapes:
    """The model's tensors that take part in a merge: all but a copy of the embedding. Raises SourceError, see above."""
    shapes = dict(model.shapes)
    if HEAD not in shapes:
        return shapes
    if is_tied(model.config, shapes):
        if not _equal_head(model):
            embedding = input_of(shapes) or "every embedding"
            message = f"its config.json ties the embeddings, but {HEAD} here differs from {embedding}"
            hint = "Was the head trained apart? Then set tie_word_embeddings to false there. If not, remove the head."
            raise SourceError(message, where=str(model.folder), hint=hint)
        del shapes[HEAD]
    elif is_tied(base.config, base.shapes) and _equal_head(model):
        del shapes[HEAD]
    return shapes


def check_fits(base: Checkpoint, source: Checkpoint) -> Shapes:
    """The source's tensors that take part. Raises SourceError, naming the first thing that differs, where the source
    is not a fine-tune of the base."""
    where = str(source.folder)
    _check_architecture(base.config, source.config, where)
    ours, theirs = merged_shapes(base, base), merged_shapes(source, base)
    either = {HEAD} if is_tied(base.config, base.shapes) or is_tied(source.config, source.shapes) else set()
    missing, extra = sorted(ours.keys() - theirs.keys() - either), sorted(theirs.keys() - ours.keys() - either)
    if (depth := count_layers(theirs)) != count_layers(ours):
        message = f"expected as many layers as the base has, {count_layers(ours)}, got {depth}"
        raise SourceError(message, where=where, hint="Sources must be fine-tunes of the base, a stack's models too.")
    if missing:
        raise SourceError(f"{_some(missing)} of the base {_is(missing)} missing", where=where)
    if extra:
        raise SourceError(f"{_some(extra)} {_is(extra)} not in the base", where=where)
    by_row = set(row_tensors(theirs))
    for tensor in (name for name in ours if name in theirs):
        skip = 1 if tensor in by_row else 0  # rows may differ in number
        if theirs[tensor][skip:] != ours[tensor][skip:]:
            message = f"{tensor}: expected the base's shape {list(ours[tensor])}, got {list(theirs[tensor])}"
            raise SourceError(message, where=where, hint="Sources must be fine-tunes of the base.")
    check_rows(theirs, where)
    _check_heads(base.config, source.config, where)
    return theirs


def check_rows(shapes: Shapes, where: str) -> None:
    """Raises SourceError where a head has other rows than the embedding."""
    rows = rows_of(shapes)
    for tensor in row_tensors(shapes):
        if rows is not None and shapes[tensor][:1] != (rows,):
            message = f"{tensor} has {shapes[tensor][0]} rows, but {input_of(shapes)} has {rows}"
            raise SourceError(message, where=where, hint="Embedding and head must have a row for the same tokens.")


def _check_architecture(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    for key in ("model_type", "architectures"):
        if ours.get(key) != theirs.get(key):
            message = f"{key}: expected the base's {ours.get(key)}, got {theirs.get(key)}"
            raise SourceError(message, where=where, hint="Sources must be fine-tunes of the base.")


def _check_heads(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Of models whose tensors have the same shapes."""
    for key in HEADS:
        if key in ours and key in theirs and ours[key] != theirs[key]:
            message = f"{key}: expected the base's {ours[key]}, got {theirs[key]}"
            hint = "The tensors have the same shapes, but other heads read them. Correct the config that is wrong."
            raise SourceError(message, where=where, hint=hint)


def check_described(model: Checkpoint) -> None:
    """Raises SourceError where config.json promises more layers or tokens than there are tensors of, or a layer lacks
    a tensor."""
    where = str(model.folder)
    layers, rows = model.config.get("num_hidden_layers"), rows_of(model.shapes)
    if isinstance(layers, int) and layers > count_layers(model.shapes):
        message = f"config.json has num_hidden_layers {layers}, but there are {count_layers(model.shapes)} layers"
        raise SourceError(message, where=where, hint="Was the model saved completely?")
    words = model.config.get("vocab_size")
    if isinstance(words, int) and rows is not None and words > rows:
        message = f"config.json has vocab_size {words}, but {input_of(model.shapes)} has {rows} rows"
        raise SourceError(message, where=where, hint="Correct vocab_size; transformers could not load it either.")

    if missing := _missing(model):
        message = f"{_some(missing)} {_is(missing)} missing; other layers have such a tensor"
        raise SourceError(message, where=where, hint="Was the model saved completely?")


def _missing(model: Checkpoint) -> list[str]:
    """The tensors that a layer lacks, other layers have, and transformers has there: layers need not be alike."""
    kinds: dict[tuple[str, str], set[str]] = {}
    layers: dict[str, set[int]] = {}
    for name in model.shapes:
        if (layer := place_of(name).layer) is not None:
            before, after = split_layer(name)
            layers.setdefault(before, set()).add(layer)
            kinds.setdefault((before, after), set()).add(name)
    unequal = [
        name
        for (before, after), stored in kinds.items()
        if len(stored) < len(layers[before])
        for name in (f"{before}.{layer}.{after}" for layer in sorted(layers[before]))
        if name not in stored
    ]
    return sorted(_known(model.config).intersection(unequal)) if unequal else []


def _known(config: Mapping[str, Any]) -> set[str]:
    """The tensors that transformers has for a config; none where it knows no such model."""
    from transformers import AutoConfig, AutoModelForCausalLM  # seconds to import

    settings = {key: value for key, value in config.items() if key != "model_type"}
    with suppress(Exception), torch.device("meta"):  # whatever transformers holds against it
        made = AutoConfig.for_model(str(config.get("model_type")), **settings)
        return set(AutoModelForCausalLM.from_config(made, trust_remote_code=False).state_dict())
    return set()


def unlike(base: Checkpoint, source: Checkpoint) -> list[str]:
    """What of the source's config.json changes what it computes, and the merge takes from the base; a line each."""
    return [
        f"its {key} is {source.config[key]}, the merge's is the base's {base.config[key]}"
        for key in COMPUTED
        if key in base.config and key in source.config and base.config[key] != source.config[key]
    ]


def _equal_head(model: Checkpoint) -> bool:
    embedding = input_of(model.shapes)
    return embedding is not None and torch.equal(model.mapped(embedding), model.mapped(HEAD))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
