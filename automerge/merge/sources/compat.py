"""Whether a full checkpoint fits the base: architecture, tensor names and shapes. Nothing is skipped in silence.

Names and shapes must be equal. One exception: where the base ties its embeddings (its config.json says so, or is silent
and there is no head), `lm_head.weight` is a copy of the embedding, in the base or a source. It is left out of the merge
if it equals that model's own embedding bit for bit, else the model is refused.
"""

from collections.abc import Mapping
from typing import Any

import torch

from automerge.errors import SourceError
from automerge.merge.layout import FIRST
from automerge.merge.sources.checkpoint import Checkpoint

HEAD = "lm_head.weight"
POSITIONS = frozenset({"wpe"})


def merged_shapes(model: Checkpoint, base: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The tensors that take part in a merge: all but a tied copy of the embedding. Raises SourceError, see above."""
    shapes = dict(model.shapes)
    tied = base.config.get("tie_word_embeddings", HEAD not in base.shapes)
    if HEAD not in shapes or not tied:
        return shapes
    embedding = _embedding(shapes)
    if embedding is None or not torch.equal(model.mapped(embedding), model.mapped(HEAD)):
        message = f"the base's embeddings are tied, but {HEAD} here differs from {embedding or 'every embedding'}"
        raise SourceError(message, where=str(model.folder), hint="Was the head trained apart? Then it does not fit.")
    del shapes[HEAD]
    return shapes


def check_fits(base: Checkpoint, source: Checkpoint) -> None:
    """Raises SourceError, naming the first thing that differs, where the source is not a fine-tune of the base."""
    where = str(source.folder)
    _check_architecture(base.config, source.config, where)
    ours, theirs = merged_shapes(base, base), merged_shapes(source, base)
    _check_vocabulary(ours, theirs, where)
    missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if missing:
        raise SourceError(f"{_some(missing)} of the base {_is(missing)} missing", where=where)
    if extra:
        raise SourceError(f"{_some(extra)} {_is(extra)} not in the base", where=where)
    for tensor, shape in ours.items():
        if theirs[tensor] != shape:
            message = f"{tensor}: expected the base's shape {list(shape)}, got {list(theirs[tensor])}"
            raise SourceError(message, where=where, hint="Sources must be fine-tunes of the base.")


def _check_architecture(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    for key in ("model_type", "architectures"):
        if ours.get(key) != theirs.get(key):
            message = f"{key}: expected the base's {ours.get(key)}, got {theirs.get(key)}"
            raise SourceError(message, where=where, hint="Sources must be fine-tunes of the base.")


def _check_vocabulary(ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]], where: str) -> None:
    embedding = _embedding(ours)
    if embedding is None or embedding not in theirs or ours[embedding][:1] == theirs[embedding][:1]:
        return
    message = f"a vocabulary of {theirs[embedding][0]} tokens, the base's has {ours[embedding][0]} ({embedding})"
    hint = "Models of different vocabularies cannot be merged yet; give the source the base's tokenizer."
    raise SourceError(message, where=where, hint=hint)


def _embedding(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    for tensor, shape in shapes.items():
        if len(shape) == 2 and set(tensor.split(".")) & (FIRST - POSITIONS):
            return tensor
    return None


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
