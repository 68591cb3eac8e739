"""A model folder's tokenizer, as the tokens and the ids it gives them. It knows no weights and no merge.

What counts is what transformers would encode with: tokenizer.json, and the tokens that the files beside it add to it.
A folder without tokenizer.json (sentencepiece, vocab.json and merges.txt) is converted by transformers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from automerge.errors import SourceError
from automerge.merge.embeddings import input_of, rows_of
from automerge.merge.sources.folder import read_bytes, read_json

FAST = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
VOCABULARY_FILES = (FAST, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")  # any of them is a tokenizer
TOKENIZER_FILES = (*VOCABULARY_FILES, SETTINGS, SPECIAL, ADDED, "merges.txt", TEMPLATE, "chat_template.json")
FURTHER_TEMPLATES = "additional_chat_templates"  # a folder: a file a template, named after it
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}


@dataclass(frozen=True)
class Tokens:
    """`ids`: token → id, each id once. `added`: what tokenizer.json says of a token outside its model's vocabulary.

    `roles`: role, e.g. eos_token → token. `text` is the whole of tokenizer.json.
    """

    folder: Path
    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]
    roles: Mapping[str, str]
    text: str

    @property
    def by_id(self) -> dict[int, str]:
        """id → token."""
        return {number: token for token, number in self.ids.items()}


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer of any kind."""
    return any((folder / name).is_file() for name in VOCABULARY_FILES)


def tokenizer_files(folder: Path) -> list[str]:
    """The files of a folder's tokenizer, by their paths in it."""
    further = sorted(path.name for path in (folder / FURTHER_TEMPLATES).glob("*.jinja"))
    return [
        *(name for name in TOKENIZER_FILES if (folder / name).is_file()),
        *(f"{FURTHER_TEMPLATES}/{name}" for name in further),
    ]


def check_vocabularies(
    base: Mapping[str, tuple[int, ...]], source: Mapping[str, tuple[int, ...]], base_folder: Path, folder: Path
) -> None:
    """Raises SourceError where the embeddings have different numbers of rows and a tokenizer is missing."""
    ours, theirs = rows_of(base), rows_of(source)
    if ours == theirs:
        return
    for lacking in (folder, base_folder):
        if not has_tokenizer(lacking):
            whose = "it" if lacking == folder else f"the base, {base_folder},"
            message = f"a vocabulary of {theirs} tokens, the base's has {ours} ({input_of(source)})"
            hint = "Put the model's own tokenizer.json there: its tokens say which embedding row is which."
            raise SourceError(f"{message}, and {whose} has no tokenizer", where=str(folder), hint=hint)


def same_vocabulary(one: Path, other: Path) -> bool:
    """Whether two folders give every token the same id, told from equal files alone; False means: read them."""
    if one == other:
        return True
    files = (*VOCABULARY_FILES, ADDED, "merges.txt")
    return all(_bytes(one / name) == _bytes(other / name) for name in files) and _named(one) == _named(other)


def read_tokens(folder: Path) -> Tokens:
    """Raises SourceError where there is no tokenizer, it cannot be read, or two tokens share an id."""
    text = _fast(folder)
    where = str(folder / FAST)
    try:
        ids = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
        added = {str(entry["content"]): entry for entry in json.loads(text)["added_tokens"]}
    except Exception as error:  # the library raises plain Exceptions
        raise SourceError(f"cannot be read as a tokenizer: {str(error).splitlines()[0]}", where=where) from error
    by_id: dict[int, str] = {}
    for token, number in ids.items():
        if number in by_id:
            message = f"the tokens {by_id[number]!r} and {token!r} share the id {number}"
            raise SourceError(message, where=where, hint="Which of them the embedding's row is cannot be told.")
        by_id[number] = token
    return Tokens(folder, ids, added, read_roles(folder), text)


def read_roles(folder: Path) -> dict[str, str]:
    """Role → token, as tokenizer_config.json or special_tokens_map.json says."""
    found: dict[str, str] = {}
    for settings in (_json(folder / SPECIAL), _json(folder / SETTINGS)):  # the later wins
        for role in ROLES:
            if role in settings and (token := _content(settings[role])) is not None:
                found[role] = token
    return found


def read_template(folder: Path) -> str:
    """The chat template that is used where none is named, as text; empty where there is none."""
    file = _bytes(folder / TEMPLATE)
    if file is not None:
        return file.decode("utf-8", "replace")
    template = _json(folder / SETTINGS).get("chat_template") or _json(folder / "chat_template.json").get(
        "chat_template"
    )
    return _default_of(template)


def _default_of(template: Any) -> str:
    """Of several templates, `[{name, template}, …]` or name → template, the one named default, as transformers does."""
    if isinstance(template, list):
        entries = (entry for entry in template if isinstance(entry, dict))
        template = next((entry.get("template") for entry in entries if entry.get("name") == "default"), None)
    elif isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else ""


def _fast(folder: Path) -> str:
    """tokenizer.json with every token the files beside it add; made by transformers where it alone will not do."""
    if not has_tokenizer(folder):
        raise SourceError(
            "holds no tokenizer, but the vocabularies of these models are not the same",
            where=str(folder),
            hint=f"Put the model's own {FAST} there: its tokens say which embedding row is which.",
        )
    path = folder / FAST
    if path.is_file():
        try:
            text = read_bytes(path).decode("utf-8")
            core = Tokenizer.from_str(text)
            known = all(core.token_to_id(token) is not None for token in _named(folder))
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"cannot be read as a tokenizer: {str(error).splitlines()[0]}", where=str(path)
            ) from error
        if known:
            return text
    return _converted(folder)


def _converted(folder: Path) -> str:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # whatever a converter lacks: a library, a file, a known class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        message = f"transformers cannot make a fast tokenizer of its files: {reason}"
        raise SourceError(message, where=str(folder), hint=f"Save it with a {FAST}.") from error


def _named(folder: Path) -> dict[str, int | None]:
    """The tokens that the files beside tokenizer.json name, with the ids they give them, if any."""
    found: dict[str, int | None] = {}
    settings = _json(folder / SETTINGS)
    listed = [*_listed(settings, folder / SETTINGS), *_listed(_json(folder / SPECIAL), folder / SPECIAL)]
    for token in (*read_roles(folder).values(), *listed):
        found[token] = None
    for token, number in _json(folder / ADDED).items():
        found[token] = _id(number, folder / ADDED, token)
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        message = f"added_tokens_decoder: expected ids with a token each, got {decoder!r}"
        raise SourceError(message, where=str(folder / SETTINGS))
    for number, entry in decoder.items():
        if (content := _content(entry)) is not None:
            found[content] = _id(number, folder / SETTINGS, "added_tokens_decoder")
    return found


def _id(number: Any, path: Path, key: str) -> int:
    try:
        return int(number)
    except (TypeError, ValueError, OverflowError):
        raise SourceError(f"{key}: expected a token's id, got {number!r}", where=str(path)) from None


def _listed(settings: Mapping[str, Any], path: Path) -> Iterator[str]:
    for key in ("additional_special_tokens", "extra_special_tokens"):
        given = settings.get(key) or ()
        if not isinstance(given, dict | list | tuple):
            raise SourceError(f"{key}: expected tokens, got {given!r}", where=str(path))
        for entry in given.values() if isinstance(given, dict) else given:
            if (token := _content(entry)) is not None:
                yield token


def _content(entry: Any) -> str | None:
    token = entry.get("content") if isinstance(entry, dict) else entry
    return token if isinstance(token, str) else None


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _bytes(path: Path) -> bytes | None:
    return read_bytes(path) if path.is_file() else None
