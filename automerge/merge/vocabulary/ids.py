"""The special tokens' ids in config.json and generation_config.json, rewritten for the merge's vocabulary.

Where the merge takes a source's tokenizer, an id is the one that source's own file gives for the same key; where it
gives none (an adapter has no such files), the base's id is translated: by token string, or, where the base's token
plays a role (eos_token, …) that the source's tokenizer gives to another token, to that token. It reads no file.
"""

from collections.abc import Callable, Mapping
from typing import Any

Translate = Callable[[int, str], int | None]  # the base's id and the key it stands under → the merge's id

_OTHERS = frozenset({"suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_decoder_ids"})


def is_token_key(key: str) -> bool:
    """Whether a key's value is made of token ids: eos_token_id, suppress_tokens, …"""
    return key.endswith("_token_id") or key in _OTHERS


def rewritten(settings: Mapping[str, Any], own: Mapping[str, Any], translate: Translate) -> dict[str, Any]:
    """`settings` (the base's) with every token id as `own` (the tokenizer's model's) gives it, else translated.

    An id that has no translation is left out.
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if is_token_key(key):
            if key not in own and (moved := _translated(value, key, translate)) is not None:
                result[key] = moved
        elif isinstance(value, Mapping):
            theirs = own.get(key)
            result[key] = rewritten(value, theirs if isinstance(theirs, Mapping) else {}, translate)
        else:
            result[key] = value
    result.update((key, value) for key, value in own.items() if is_token_key(key))
    return result


def translator(base: Mapping[int, str], output: Mapping[str, int], roles: Mapping[str, tuple[str, str]]) -> Translate:
    """Translates the ids of `base` (id → token) into `output` (token → id). `roles`: role → (the base's token, the
    merge's), where the two differ."""

    def translate(number: int, key: str) -> int | None:
        token = base.get(number)
        was, now = roles.get(key.removesuffix("_id"), ("", ""))
        if token is not None and token == was:
            token = now
        return None if token is None else output.get(token)

    return translate


def _translated(value: Any, key: str, translate: Translate) -> Any:
    if isinstance(value, list):
        return [moved for entry in value if (moved := _translated(entry, key, translate)) is not None]
    if isinstance(value, int) and not isinstance(value, bool):
        return translate(value, key)
    return value
