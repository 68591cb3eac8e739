"""Which tensors have one row a token, told from their names; and whether a model ties its head to its embedding.

It knows names and shapes only. What cannot be told for certain is refused by whoever has to re-index it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from automerge.errors import SourceError
from automerge.merge.layout import place_of

INPUTS = frozenset({"embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in"})
POSITIONS = frozenset({"wpe"})
HEADS = frozenset({"lm_head", "embed_out"})
HEAD = "lm_head.weight"
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def is_input(tensor: str) -> bool:
    """Whether the name is that of an input embedding: `model.embed_tokens.weight`, `transformer.wte.weight`, …"""
    *_, module, kind = ("", *tensor.split("."))
    return kind == "weight" and module in INPUTS


def is_head(tensor: str) -> bool:
    """Whether the name is that of an output head, or of its bias."""
    *_, module, kind = ("", *tensor.split("."))
    return kind in ("weight", "bias") and module in HEADS


def row_tensors(tensors: Iterable[str]) -> list[str]:
    """The tensors with one row a token, in the order given."""
    return [tensor for tensor in tensors if is_input(tensor) or is_head(tensor)]


def input_of(tensors: Iterable[str]) -> str | None:
    """The input embedding; None where there is none, or more than one."""
    found = [tensor for tensor in tensors if is_input(tensor)]
    return found[0] if len(found) == 1 else None


def rows_of(shapes: Shapes) -> int | None:
    """The number of rows of the input embedding."""
    tensor = input_of(shapes)
    return None if tensor is None or not shapes[tensor] else shapes[tensor][0]


def is_tied(config: Mapping[str, Any], tensors: Iterable[str]) -> bool:
    """Whether the head is the embedding: as config.json says, or where it is silent, whether no head is stored."""
    said = config.get("tie_word_embeddings")
    return HEAD not in tensors if said is None else bool(said)


def check_certain(shapes: Shapes, where: str) -> None:
    """Raises SourceError where it is not certain which tensors have a row a token, and only those."""
    inputs = [tensor for tensor in shapes if is_input(tensor)]
    hint = "The models' vocabularies differ, so these tensors must be known: give all of them one tokenizer and size."
    if len(inputs) != 1:
        named = f"{len(inputs)} input embeddings ({', '.join(inputs)})" if inputs else "no input embedding"
        raise SourceError(f"expected one input embedding, found {named}", where=where, hint=hint)
    rows = shapes[inputs[0]][0]
    for tensor, shape in shapes.items():
        if is_input(tensor) or is_head(tensor):
            if shape[:1] != (rows,):
                raise SourceError(f"{tensor} has {shape[0]} rows, {inputs[0]} {rows}", where=where, hint=hint)
        elif rows in shape and len(shape) > 1 and place_of(tensor).layer is None and not _is_position(tensor):
            message = f"{tensor} {list(shape)} may have one row per token, as {inputs[0]} has"
            raise SourceError(message, where=where, hint=hint)


def _is_position(tensor: str) -> bool:
    return bool(POSITIONS & set(tensor.split(".")))
