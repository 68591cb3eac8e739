"""Which row of which model's embeddings becomes which row of the merge's. It knows tokens and ids, never a value.

The rules, by token string (docs/vocabularies.md):
- The output has the tokens, ids and rows of the model whose tokenizer the recipe names; `union` the base's, then every
  further token of the sources, source by source as they are sorted, each in the order of its ids.
- Rows beyond the tokens are padding and stay. There are never fewer rows than the named model (union: the base) has.
- A token that a source lacks: the base's row, so δ = 0. One that the base lacks: its sole owner's row, else the mean of
  its owners' rows.
- A token of `Vocabulary.tokens` is one of the output's, at its end if no model gave it. With `force` all models take
  the row of its rule; without, those that lack the token.
- A padding row: each model's own where that row is padding there too; the base, where it is not, takes the row of the
  model the tokenizer is from, and the sources the base's. Rows that neither has (pad_to_multiple_of): in every model
  that has none the mean of its rows of tokens.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.errors import ConfigError, SourceError
from automerge.recipe import UNION, TokenRule

MAX_MULTIPLE = 1 << 20  # more rows than any vocabulary has
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
    further: tuple[str, ...] = ()  # what it has beyond the tokens of the tokenizer taken, in the order of their ids


@dataclass(frozen=True)
class Borrowed:
    """Rows [k] of the output that models without their own have from others: of one owner, the mean of several, or,
    of none, zeros. `owners`: (model, int64 [k] rows of that model).
    """

    rows: Tensor
    owners: tuple[tuple[str, Tensor], ...]


@dataclass(frozen=True)
class RowMap:
    """`own`: model → int64 [rows], its own row for each row of the output, or NONE: then what is lent.

    `lent`: int64 [rows], the base's row that a model without one takes, or NONE: then it is in `borrowed` or, a mean of
    the model's own rows, in `averaged`, int64. `tokens`: int64, the output's rows with a token.
    """

    rows: int
    base: str
    own: Mapping[str, Tensor]
    lent: Tensor
    borrowed: tuple[Borrowed, ...]
    averaged: Tensor
    tokens: Tensor

    @property
    def digest(self) -> str:
        """64 hex digits over all of it: with the models' weights it makes the merge's embeddings."""
        found = hashlib.sha256(f"{self.rows}\0{self.base}".encode())

        def add(name: str, numbers: Tensor) -> None:
            found.update(f"\0{name}\0{numbers.numel()}\0".encode())
            found.update(numbers.to(torch.int64).numpy().astype("<i8").tobytes())

        for name in sorted(self.own):
            add(name, self.own[name])
        for one in self.borrowed:
            add("borrowed", one.rows)
            for owner, numbers in one.owners:
                add(owner, numbers)
        for name, numbers in (("lent", self.lent), ("averaged", self.averaged), ("tokens", self.tokens)):
            add(name, numbers)
        return found.hexdigest()


def output_vocabulary(
    members: Sequence[Member], chosen: str, pad_to_multiple_of: int = 0, ruled: Iterable[str] = ()
) -> Output:
    """The merge's vocabulary; `members`: the base, then the sources; `chosen`: one of their names, or union; `ruled`:
    the tokens with a rule.

    Raises SourceError where a tokenizer has a token without a row, ConfigError for a multiple that is none.
    """
    if not 0 <= pad_to_multiple_of <= MAX_MULTIPLE:
        raise ConfigError(f"pad_to_multiple_of: expected 0 to {MAX_MULTIPLE:,}, got {pad_to_multiple_of}")
    for member in members:
        _check_rows(member)
    base = members[0]
    own = next((member for member in members if member.name == chosen), base)
    tokens, rows = dict(own.tokens), own.rows
    others = members[1:] if chosen == UNION else ()
    found = [token for member in others for token in sorted(member.tokens, key=member.tokens.__getitem__)]
    further = [token for token in dict.fromkeys([*found, *sorted(ruled)]) if token not in tokens]
    start = max(tokens.values(), default=-1) + 1
    tokens.update((token, row) for row, token in enumerate(further, start))
    rows = max(rows, start + len(further))
    if pad_to_multiple_of:
        rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
    return Output(tokens, rows, tuple(further))


def is_plain(members: Sequence[Member], output: Output, rules: Mapping[str, TokenRule]) -> bool:
    """Whether every row of every model is the output's row of that number: nothing has to be re-indexed."""
    base = members[0]
    same = all(member.tokens == base.tokens and member.rows == base.rows for member in members)
    return same and output.rows == base.rows and not rules


def row_map(members: Sequence[Member], output: Output, chosen: str, rules: Mapping[str, TokenRule]) -> RowMap:
    """See the rules above. Raises ConfigError for a rule with a row that the model named lacks."""
    base, *sources = members
    token_of: list[str | None] = [None] * output.rows
    for name, place in output.tokens.items():
        token_of[place] = name
    own = {member.name: _own_rows(member, token_of) for member in members}
    lent = list(own[base.name])
    owners: dict[int, list[tuple[str, int]]] = {}  # (model, its row)
    for row, token in enumerate(token_of):
        if lent[row] != NONE or token in rules:
            continue
        names = [source.name for source in sources] if token is not None else [chosen] if chosen in own else []
        owners[row] = [(name, own[name][row]) for name in names if own[name][row] != NONE]
    averaged = [row for row in owners if not owners[row]]
    for token, rule in rules.items():
        row = output.tokens[token]
        owner = next((member for member in members if member.name == rule.model), None)
        theirs = NONE if owner is None else _ruled_row(token, rule, owner, members)
        lent[row] = theirs if owner is base else NONE
        if owner is not base:
            owners[row] = [] if owner is None else [(owner.name, theirs)]
        for member in members if rule.force else ():
            own[member.name][row] = NONE
        if own[base.name][row] == NONE:
            own[base.name][row] = lent[row]
    return RowMap(
        rows=output.rows,
        base=base.name,
        own={name: torch.tensor(rows, dtype=torch.int64) for name, rows in own.items()},
        lent=torch.tensor(lent, dtype=torch.int64),
        borrowed=_borrowed({row: owners[row] for row in owners.keys() - set(averaged)}),
        averaged=torch.tensor(averaged, dtype=torch.int64),
        tokens=torch.tensor(sorted(output.tokens.values()), dtype=torch.int64),
    )


def _own_rows(member: Member, token_of: Sequence[str | None]) -> list[int]:
    taken = set(member.tokens.values())
    return [
        member.tokens.get(token, NONE) if token is not None else row if row < member.rows and row not in taken else NONE
        for row, token in enumerate(token_of)
    ]


def _borrowed(owners: Mapping[int, Sequence[tuple[str, int]]]) -> tuple[Borrowed, ...]:
    """The rows with the same owners together, in a fixed order."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for row in sorted(owners):
        alike.setdefault(tuple(name for name, _ in owners[row]), []).append(row)
    return tuple(
        Borrowed(
            torch.tensor(rows, dtype=torch.int64),
            tuple(
                (name, torch.tensor([owners[row][place][1] for row in rows], dtype=torch.int64))
                for place, name in enumerate(names)
            ),
        )
        for names, rows in sorted(alike.items())
    )


def _ruled_row(token: str, rule: TokenRule, owner: Member, members: Sequence[Member]) -> int:
    where = f"vocabulary.tokens.{token}"
    if isinstance(rule.token, int):
        if not 0 <= rule.token < owner.rows:
            raise ConfigError(f"{owner.name} has no row {rule.token}, it has {owner.rows}", where=where)
        return rule.token
    wanted = rule.token or token
    if wanted not in owner.tokens:
        has = [other.name for other in members if wanted in other.tokens]
        hint = f"It is in {', '.join(has)}." if has else "No model has it."
        raise ConfigError(f"{owner.name} has no token {wanted!r}", where=where, hint=hint)
    return owner.tokens[wanted]


def _check_rows(member: Member) -> None:
    beyond = [token for token, row in member.tokens.items() if row >= member.rows]
    if beyond:
        token = min(beyond, key=member.tokens.__getitem__)
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        message = f"{member.name}: the token {token!r}{more} has id {member.tokens[token]}, but the embedding has"
        hint = "Give the model the tokenizer it was trained with, or resize its embeddings."
        raise SourceError(f"{message} {member.rows} rows", where=member.where or None, hint=hint)
