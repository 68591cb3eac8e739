"""The size of an adapter's own vocabulary: of the embedding and head it saves whole, after tokens were added.

PEFT saves resized embeddings beside the factors. Names and shapes only; lora_open.py checks the rest.
"""

from collections.abc import Mapping
from pathlib import Path

from automerge.errors import SourceError
from automerge.merge.embeddings import input_of, row_tensors, rows_of
from automerge.merge.sources.checkpoint import SafeFile
from automerge.merge.sources.folder import adapter_file
from automerge.merge.sources.lora_config import read_lora_config
from automerge.merge.sources.lora_names import TOKENS, sort_names
from automerge.merge.sources.lora_spelling import spelt_as

Shape = tuple[int, ...]


def adapted_shapes(folder: Path, base: Mapping[str, Shape]) -> dict[str, Shape]:
    """The base's shapes, where the adapter saves embeddings of another number of rows with those rows.

    Raises SourceError where it saves only some of the tensors that have a row a token; and for an option that is not
    supported, by its name, before its tensors are.
    """
    read_lora_config(folder)
    path = adapter_file(folder)
    file = SafeFile(path)
    names = sort_names(file.names, str(path))
    saved = names.saved
    stored = spelt_as(names.tensors, base)
    base = {name: base[tensor] for name, tensor in stored.items()}
    shapes = dict(base)
    for tensor in (tensor for tensor in row_tensors(base) if tensor in names.copies):
        rows = file.describe(names.copies[tensor])[1][:1]
        if rows != base[tensor][:1]:
            option = "trainable_token_indices" if TOKENS in names.copies[tensor] else "target_modules"
            message = f"{option} on {tensor} of another number of rows than the base's {base[tensor][0]}, {rows[0]}"
            hint = "Where tokens were added, save embedding and head whole (modules_to_save), or merge with PEFT."
            raise SourceError(message, where=str(path), hint=hint)
    for tensor in row_tensors(base):
        shape = file.describe(saved[tensor])[1] if tensor in saved else base[tensor]
        if shape[1:] == base[tensor][1:]:
            shapes[tensor] = shape
    sizes = {tensor: shapes[tensor][0] for tensor in row_tensors(shapes) if shapes[tensor]}
    if len(set(sizes.values())) > 1 and rows_of(shapes) is not None:
        listed = ", ".join(f"{tensor} has {rows}" for tensor, rows in sizes.items())
        message = f"the adapter's embeddings have different numbers of rows than {input_of(shapes)}: {listed}"
        hint = "Where tokens were added, embedding and head must both be saved (modules_to_save)."
        raise SourceError(message, where=str(path), hint=hint)
    return {stored[name]: shape for name, shape in shapes.items()}
