"""A tensor's name in the checkpoint and in an adapter of it, where the two differ. Names only.

transformers renames some of a checkpoint's tensors as it loads them, and PEFT writes the names they have in memory. So
one base has adapters of either spelling: made before transformers 5, or over a copy that was saved again.
"""

import re
from collections.abc import Collection, Iterable

# the checkpoint's spelling → that in memory
RENAMED = (
    (r"^(?=(h|wte|wpe|ln_f|word_embeddings|word_embeddings_layernorm)\.)", "transformer."),  # GPT-2, BLOOM on the hub
    (r"^(?=(layers|embed_tokens|norm)\.)", "model."),  # a model saved without its head
    (r"\.block_sparse_moe\.", ".mlp."),  # Mixtral
    (r"^embed_out\.", "lm_head."),  # GPT-NeoX
)


def spelt_as(named: Collection[str], tensors: Iterable[str]) -> dict[str, str]:
    """The base's tensors under the adapter's names for them: its name → the base's. `named` are those in its file.

    A renaming holds for all tensors, named or not, where it explains a name that the base lacks.
    """
    found = {tensor: tensor for tensor in tensors}
    for pattern, spelling in RENAMED:
        renamed = {name: re.sub(pattern, spelling, name) for name in found}
        if any(name in named and name not in found for name in renamed.values()):
            found = {name if name in named else renamed[name]: tensor for name, tensor in found.items()}
    return found


def spellings(tensor: str) -> set[str]:
    """Every name that a tensor of the base may have had when an adapter was made."""
    return {tensor, *(re.sub(pattern, spelling, tensor) for pattern, spelling in RENAMED)}
