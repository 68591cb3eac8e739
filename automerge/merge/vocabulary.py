"""Which row of which model's embeddings becomes which row of the merge's. It knows tokens and ids, never a value.

The rules, by token string (docs/vocabularies.md):
- The output has the tokens, ids and rows of the model whose tokenizer the recipe names; `union` the base's, then every
  further token of the sources, source by source as they are sorted, each in the order of its ids.
- Rows beyond the tokens are padding and stay. There are never fewer rows than the named model (union: the base) has.
- A token that a source lacks: the base's row, so δ = 0. One that the base lacks: its sole owner's row, else the mean of
  its owners' rows. A token of `Vocabulary.tokens`: the named model's row, for all.
- A padding row: each model's own where that row is padding there too; the base, where it is not, takes the row of the
  model the tokenizer is from. Rows that no model has (pad_to_multiple_of): the mean of the base's rows of tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.errors import ConfigError, SourceError
from automerge.recipe import UNION

NONE = -1  # as a row: the model has none of its own


@dataclass(frozen=True)
class Member:
    """A model's vocabulary: token → row, and the number of rows its embeddings have."""

    name: str
    tokens: Mapping[str, int]
    rows: int
    where: str = ""


@dataclass(frozen=True)
class Output:
    """The merge's vocabulary: token → row, and the number of rows."""

    tokens: Mapping[str, int]
    rows: int
    further: tuple[str, ...] = ()  # in a union: what it has beyond the base's tokens, in the order of their ids


@dataclass(frozen=True)
class Borrowed:
    """Rows [k] of the output that the base has from others: from their one owner, or the mean of several.

    `owners`: (model, int64 [k] rows of that model).
    """

    rows: Tensor
    owners: tuple[tuple[str, Tensor], ...]


@dataclass(frozen=True)
class RowMap:
    """`own`: model → int64 [rows], its own row for each row of the output, or NONE: then the base's as it comes out.

    The base's own NONEs are in `borrowed` and `averaged`, int64. `tokens`: int64, the output's rows with a token.
    """

    rows: int
    base: str
    own: Mapping[str, Tensor]
    borrowed: tuple[Borrowed, ...]
    averaged: Tensor
    tokens: Tensor


def output_vocabulary(members: Sequence[Member], chosen: str, pad_to_multiple_of: int = 0) -> Output:
    """The merge's vocabulary; `members`: the base, then the sources; `chosen`: one of their names, or union.

    Raises SourceError where a tokenizer has a token without a row, ConfigError for a multiple below 0.
    """
    if pad_to_multiple_of < 0:
        raise ConfigError(f"pad_to_multiple_of: expected 0 or more, got {pad_to_multiple_of}")
    for member in members:
        _check_rows(member)
    base = members[0]
    own = next((member for member in members if member.name == chosen), base)
    tokens, rows = dict(own.tokens), own.rows
    further: list[str] = []
    if chosen == UNION:
        start = max(tokens.values(), default=-1) + 1
        for member in members[1:]:
            for token in sorted(member.tokens, key=member.tokens.__getitem__):
                if token not in tokens:
                    tokens[token] = start + len(further)
                    further.append(token)
        rows = max(rows, start + len(further))
    if pad_to_multiple_of:
        rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
    return Output(tokens, rows, tuple(further))


def is_plain(members: Sequence[Member], output: Output, rules: Mapping[str, str]) -> bool:
    """Whether every row of every model is the output's row of that number: nothing has to be re-indexed."""
    base = members[0]
    same = all(member.tokens == base.tokens and member.rows == base.rows for member in members)
    return same and output.rows == base.rows and not rules


def row_map(members: Sequence[Member], output: Output, chosen: str, rules: Mapping[str, str]) -> RowMap:
    """See the rules above. Raises ConfigError for a token of `rules` that the output or the model named lacks."""
    base, *sources = members
    token_of: list[str | None] = [None] * output.rows
    for name, place in output.tokens.items():
        token_of[place] = name
    own = {member.name: _own_rows(member, token_of) for member in members}
    owners: dict[int, list[str]] = {}
    for row, token in enumerate(token_of):
        if own[base.name][row] != NONE:
            continue
        if token is not None:
            owners[row] = [source.name for source in sources if own[source.name][row] != NONE]
        elif chosen in own and own[chosen][row] != NONE:
            owners[row] = [chosen]
        else:
            owners[row] = []
    rows_of = {name: list(rows) for name, rows in own.items()}  # where an owner's row is found, rules or not
    for token, name in rules.items():
        row = _ruled_row(token, name, members, output)
        for member in members:
            own[member.name][row] = NONE
        owners.pop(row, None)
        if name == base.name:
            own[base.name][row] = base.tokens[token]
        else:
            owners[row] = [name]
    return RowMap(
        rows=output.rows,
        base=base.name,
        own={name: torch.tensor(rows, dtype=torch.int64) for name, rows in own.items()},
        borrowed=_borrowed(owners, rows_of),
        averaged=torch.tensor([row for row in sorted(owners) if not owners[row]], dtype=torch.int64),
        tokens=torch.tensor(sorted(output.tokens.values()), dtype=torch.int64),
    )


def _own_rows(member: Member, token_of: Sequence[str | None]) -> list[int]:
    taken = set(member.tokens.values())
    return [
        member.tokens.get(token, NONE) if token is not None else row if row < member.rows and row not in taken else NONE
        for row, token in enumerate(token_of)
    ]


def _borrowed(owners: Mapping[int, Sequence[str]], rows_of: Mapping[str, Sequence[int]]) -> tuple[Borrowed, ...]:
    """The rows with the same owners together, in a fixed order."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for row in sorted(owners):
        if owners[row]:
            alike.setdefault(tuple(owners[row]), []).append(row)
    return tuple(
        Borrowed(
            torch.tensor(rows, dtype=torch.int64),
            tuple((name, torch.tensor([rows_of[name][row] for row in rows], dtype=torch.int64)) for name in names),
        )
        for names, rows in sorted(alike.items())
    )


def _ruled_row(token: str, name: str, members: Sequence[Member], output: Output) -> int:
    if token not in output.tokens:
        hint = "Take the tokenizer of a model that has it, or tokenizer: union."
        raise ConfigError(f"the token {token!r} is not in the merge's vocabulary", where="vocabulary.tokens", hint=hint)
    member = next(member for member in members if member.name == name)
    if token not in member.tokens:
        has = [other.name for other in members if token in other.tokens]
        hint = f"It is in {', '.join(has)}."
        raise ConfigError(f"{name} has no token {token!r}", where="vocabulary.tokens", hint=hint)
    return output.tokens[token]


def _check_rows(member: Member) -> None:
    beyond = [token for token, row in member.tokens.items() if row >= member.rows]
    if beyond:
        token = min(beyond, key=member.tokens.__getitem__)
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        message = f"{member.name}: the token {token!r}{more} has id {member.tokens[token]}, but the embedding has"
        hint = "Give the model the tokenizer it was trained with, or resize its embeddings."
        raise SourceError(f"{message} {member.rows} rows", where=member.where or None, hint=hint)
