"""What a merge speaks: whose tokenizer it takes, which embedding row is which token, which ids its config names.

It reads tokenizers and JSON, never a tensor. Where all the models have the same vocabulary, no tokenizer is parsed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from automerge.errors import SourceError
from automerge.merge.sources.folder import read_json
from automerge.merge.vocabulary.folder import Files, files_of, union_files, with_template, write_folder
from automerge.merge.vocabulary.ids import Translate, is_token_key, rewritten, translator
from automerge.merge.vocabulary.rows import Member, Output, RowMap, is_plain, output_vocabulary, row_map
from automerge.merge.vocabulary.tokenizers import (
    Tokens,
    has_tokenizer,
    read_roles,
    read_template,
    read_tokens,
    same_vocabulary,
)
from automerge.recipe import UNION, Vocabulary

GENERATION = "generation_config.json"
TOLD = ("bos_token", "eos_token", "pad_token")


@dataclass(frozen=True)
class Speaker:
    """One model: its folder, its embeddings' rows (None: it has no embedding that is known), its config.json."""

    name: str
    folder: Path
    rows: int | None
    config: Mapping[str, Any]
    adapter: bool = False

    @cached_property
    def speaks(self) -> bool:
        """Whether it has a tokenizer of its own; else it uses the base's."""
        return has_tokenizer(self.folder)

    @cached_property
    def tokens(self) -> Tokens:
        """Its own tokenizer, read once. Raises SourceError."""
        return read_tokens(self.folder)

    @cached_property
    def token_ids(self) -> dict[str, Any]:
        """The ids that config.json and generation_config.json give; none of an adapter, which has no such files."""
        if self.adapter:
            return {}
        generation = _generation(self.folder)
        return {**_ids(self.config), "generation": _ids(self.config if generation is None else generation)}


class MergedTokenizer:
    """Of a base and sources, by the recipe's `tokenizer` (base, union or a source's name) and `vocabulary`.

    Construction raises ConfigError or SourceError where they do not fit. `row_map` is None where nothing has to be
    re-indexed.
    """

    def __init__(
        self,
        base: Speaker,
        sources: Sequence[Speaker],
        tokenizer: str,
        vocabulary: Vocabulary | None = None,
        chat_template: str = "",
    ) -> None:
        self.base = base
        self.sources = tuple(sources)
        named = next((source for source in sources if source.name == tokenizer), base)
        heirs = (named, base, *sources) if tokenizer == UNION else (named, base)
        self.owner = next((speaker for speaker in heirs if speaker.speaks), base)
        self._template = chat_template
        rules = vocabulary.tokens if vocabulary else {}
        multiple = vocabulary.pad_to_multiple_of if vocabulary else 0
        self.row_map: RowMap | None = None
        self._output: Output | None = None
        if rules or not self._same_everywhere() or (multiple and base.rows and base.rows % multiple):
            members = [self._member(speaker) for speaker in (base, *sources)]
            chosen = UNION if tokenizer == UNION else self.owner.name
            self._output = output_vocabulary(members, chosen, multiple, rules)
            if not is_plain(members, self._output, rules):
                self.row_map = row_map(members, self._output, chosen, rules)
        self._files: Files | None = None  # of a tokenizer that no model has as it is
        if self._output and self._output.further:
            speaking = [speaker.tokens for speaker in (base, *sources) if speaker.speaks]
            self._files = union_files(self.owner.tokens, self._output.further, speaking, self._output.tokens)
        elif chat_template or self.owner.adapter:
            self._files = files_of(self.owner.folder)
        if self._files is not None:
            if chat_template:
                self._files = with_template(self._files, chat_template)
            kind = {key: base.config[key] for key in ("model_type", "tokenizer_class") if base.config.get(key)}
            self._files["config.json"] = json.dumps(kind).encode()  # transformers chooses a tokenizer's class by it

    # the tokenizer

    def folder(self) -> Path:
        """The folder of the merge's tokenizer and chat template: a model's own, or one in the cache, which transformers
        reads as it will read the exported one."""
        return self.owner.folder if self._files is None else write_folder(self._files)

    @cached_property
    def rows(self) -> str:
        """A digest of what `row_map` says; "" where there is none."""
        return "" if self.row_map is None else self.row_map.digest

    # the configs

    def config(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """The base's config.json with the merge's token ids."""
        if self.owner is self.base:
            return dict(base)
        own = {} if self.owner.adapter else self.owner.config
        return rewritten(base, own, self._translate)

    def generation_config(self) -> dict[str, Any] | None:
        """The base's generation_config.json with the merge's token ids; None where there is nothing to say."""
        base = _generation(self.base.folder)
        if self.owner is self.base:
            return base
        own: Mapping[str, Any] = {}
        if not self.owner.adapter:
            own = _generation(self.owner.folder) or {
                key: self.owner.config[key] for key in (f"{role}_id" for role in TOLD) if key in self.owner.config
            }
        return rewritten(base or {}, own, self._translate) or None

    @property
    def _translate(self) -> Translate:
        ours, theirs = read_roles(self.base.folder), read_roles(self.owner.folder)
        roles = {role: (ours[role], theirs[role]) for role in ours if theirs.get(role, ours[role]) != ours[role]}
        if self.row_map is None and not roles:
            return lambda number, key: number
        return translator(self.base.tokens.by_id, self.owner.tokens.ids, roles)

    # what is told

    def notes(self) -> list[str]:
        """What of the models' tokenizers the merge does not keep: roles, tokens, ids, templates; a line each."""
        if not self.owner.speaks:
            others = [source.name for source in self.sources if source.speaks]
            hint = f"; `tokenizer` may name one that has: {', '.join(others)}" if others else ""
            return [f"the merge has no tokenizer: the model whose it would take has none{hint}"]
        found: list[str] = []
        roles = read_roles(self.owner.folder)
        template = self._template or read_template(self.owner.folder)
        for speaker in (self.base, *self.sources):
            if speaker is self.owner or not speaker.speaks:
                continue
            found += [
                f"{speaker.name}: its {role} is {token!r}, the merge's is {roles.get(role)!r}"
                for role, token in sorted(read_roles(speaker.folder).items())
                if role in TOLD and roles.get(role) != token
            ]
            if (own := read_template(speaker.folder)) and own != template:
                found.append(f"{speaker.name}: it was made with another chat template than the merge has")
            if self.row_map is not None and self._output is not None:
                found += _token_notes(speaker, self._output)
        return found

    def _same_everywhere(self) -> bool:
        speakers = (self.base, *self.sources)
        if any(speaker.rows != self.base.rows for speaker in speakers):
            return False
        folders = [speaker.folder for speaker in speakers if speaker.speaks]
        return all(same_vocabulary(folders[0], folder) for folder in folders[1:])

    def _member(self, speaker: Speaker) -> Member:
        own = speaker if speaker.speaks or speaker.rows != self.base.rows else self.base
        if speaker.rows is None:
            message = (
                f"{speaker.name}: the models' vocabularies differ, and its input embedding is not known for certain"
            )
            hint = "Give all models one tokenizer and one vocabulary size."
            raise SourceError(message, where=str(speaker.folder), hint=hint)
        return Member(speaker.name, own.tokens.ids, speaker.rows, where=str(own.folder))


def _ids(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if is_token_key(key)}


def _token_notes(speaker: Speaker, output: Output) -> list[str]:
    ids = speaker.tokens.ids
    found = []
    lost = sorted((token for token in ids if token not in output.tokens), key=ids.__getitem__)
    if lost:
        found.append(f"{speaker.name}: the merge's vocabulary lacks {_some(lost)}")
    moved = sorted((token for token in ids if output.tokens.get(token, ids[token]) != ids[token]), key=ids.__getitem__)
    if moved:
        found.append(f"{speaker.name}: at another id in the merge: {_some(moved)}")
    ordinary = [token for token in output.further if token in ids and token not in speaker.tokens.added]
    if ordinary:
        found.append(
            f"{speaker.name}: ordinary tokens there, matched as they are spelt in the union: {_some(ordinary)}"
        )
    return found


def _some(tokens: Sequence[str]) -> str:
    shown = ", ".join(json.dumps(token, ensure_ascii=False) for token in tokens[:5])
    return shown if len(tokens) <= 5 else f"{shown} and {len(tokens) - 5} more"


def _generation(folder: Path) -> dict[str, Any] | None:
    path = folder / GENERATION
    return read_json(path) if path.is_file() else None
