"""The tensors of an adapter's file, sorted by what they are: factors, magnitudes, saved tensors. Names only.

| name in the file, after `base_model.model.` | part |
|---|---|
| X.lora_A.weight, X.lora_B.weight | factors of X.weight |
| X.lora_embedding_A, X.lora_embedding_B | factors of the embedding X.weight, whose product is transposed |
| X.lora_B.bias | added to X.bias (lora_bias) |
| X.lora_magnitude_vector | DoRA's m |
| X.token_adapter.trainable_tokens_delta | rows of X.weight (trainable_token_indices) |
| X.base_layer.bias | replaces X.bias (bias) |
| X.base_layer.weight, X.token_adapter.base_layer.weight | a copy of the base's own X.weight |
| X.original_module.Y | none: a copy of the base's, as it was before X was saved whole |
| X.modules_to_save.Y | a second copy of X.Y |
| any other | replaces the base's tensor of that name (modules_to_save, bias) |
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from automerge.errors import SourceError
from automerge.merge.sources.lora_config import MERGE

PREFIX = "base_model.model."
_ADAPTER = r"(?:\.default)?"  # older files carry the adapter's name
_PARTS = {
    "A": re.compile(rf"(.+)\.lora_A{_ADAPTER}\.weight"),
    "B": re.compile(rf"(.+)\.lora_B{_ADAPTER}\.weight"),
    "bias": re.compile(rf"(.+)\.lora_B{_ADAPTER}\.bias"),
    "embedding A": re.compile(rf"(.+)\.lora_embedding_A{_ADAPTER}"),
    "embedding B": re.compile(rf"(.+)\.lora_embedding_B{_ADAPTER}"),
    "magnitude": re.compile(rf"(.+)\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?"),
    "rows": re.compile(rf"(.+)\.token_adapter\.trainable_tokens_delta{_ADAPTER}"),
}
TOKENS = ".token_adapter"  # PEFT's wrapper of an embedding with trainable_token_indices
_BASE_BIAS, _BASE_WEIGHT = ".base_layer.bias", ".base_layer.weight"
# PEFT's wrapper of a module that is saved whole, whose insides it writes too where embeddings or biases are kept
_ORIGINAL = ".original_module."
_SECOND = re.compile(rf"(.+)\.modules_to_save{_ADAPTER}\.(.+)")


@dataclass
class LoraNames:
    """`parts`: module → part → name in the file. `saved`, `copies`: base tensor → name in the file.

    `seconds` are pairs of names in the file whose tensors must be equal.
    """

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    saved: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    seconds: list[tuple[str, str]] = field(default_factory=list)

    @property
    def tensors(self) -> set[str]:
        """The names of the base's tensors, as the file has them."""
        return {*(f"{module}.weight" for module in self.parts), *self.saved, *self.copies}


def sort_names(names: Iterable[str], where: str) -> LoraNames:
    """Raises SourceError for a name that is none of the above, and for two names of one thing."""
    sorted_names = LoraNames()
    seconds: dict[str, str] = {}
    for name in names:
        plain = name.removeprefix(PREFIX)
        part, module = next(
            ((part, found[1]) for part, pattern in _PARTS.items() if (found := pattern.fullmatch(plain))), ("", "")
        )
        if part and "base_layer" not in module.split("."):
            _put(sorted_names.parts.setdefault(module, {}), part, name, where)
        elif ".lora_" in plain:
            raise SourceError(f"cannot use the adapter tensor {name}", where=where, hint=MERGE)
        elif _ORIGINAL in plain:
            continue
        elif (second := _SECOND.fullmatch(plain)) is not None:
            _put(seconds, f"{second[1]}.{second[2]}", name, where)
        elif plain.endswith(_BASE_WEIGHT):
            module = plain.removesuffix(_BASE_WEIGHT).removesuffix(TOKENS)
            _put(sorted_names.copies, f"{module}.weight", name, where)
        elif plain.endswith(_BASE_BIAS):
            _put(sorted_names.saved, plain.removesuffix(_BASE_BIAS) + ".bias", name, where)
        elif ".base_layer." in plain:
            raise SourceError(f"cannot use the adapter tensor {name}", where=where, hint=MERGE)
        else:
            _put(sorted_names.saved, plain, name, where)
    for tensor, name in seconds.items():
        if tensor not in sorted_names.saved:
            message = f"modules_to_save: the file holds {name}, but no {tensor}"
            hint = f"PEFT reads {PREFIX}{tensor} alone. Save the adapter anew with PEFT's save_pretrained."
            raise SourceError(message, where=where, hint=hint)
        sorted_names.seconds.append((sorted_names.saved[tensor], name))
    if not sorted_names.parts and not sorted_names.saved:
        raise SourceError("the adapter holds no tensors", where=where)
    return sorted_names


def _put(found: dict[str, str], key: str, name: str, where: str) -> None:
    """Raises SourceError where another name of the file says the same: PEFT would take one of them in silence."""
    if key in found:
        message = f"{found[key]} and {name} are two tensors for the same thing"
        raise SourceError(message, where=where, hint="Take out the one that is not meant.")
    found[key] = name
