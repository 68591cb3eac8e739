"""Models whose embeddings come out in the merge's vocabulary, row by row, formed when they are asked for.

A re-indexed tensor has the dtype the model stores it in, or the wider one where its rows come from models that store
it differently; float32 where it has a mean, or a row formed from an adapter. The mean of several owners' rows is taken
in float32: they are added in the order of their names, the sum divided once. The mean of all a model's rows of tokens,
for padding, is taken in float64 by halves. Other tensors pass through. It knows no tokens: rows.py says which row is
which.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automerge.errors import SourceError
from automerge.merge.embeddings import HEAD, Shapes, check_certain, input_of, row_tensors
from automerge.merge.frame import Frame
from automerge.merge.layout import in_order
from automerge.merge.sources.source import CPU, Source
from automerge.merge.vocabulary.rows import NONE, RowMap

BLOCK = 1024  # rows added up together


def untied(frame: Frame, base: str, shapes: Mapping[str, Shapes]) -> Frame:
    """The frame with a head wherever one of the models has its own; `frame` itself where all agree. `shapes`: model
    (`base`: the base's name) → its tensors. Raises SourceError where the embedding that is the head is not known."""
    with_head = {name for name, own in shapes.items() if HEAD in own}
    if not with_head or len(with_head) == len(shapes):
        return frame
    embeddings = {name: input_of(shapes[name]) for name in shapes.keys() - with_head}
    for name, embedding in sorted(embeddings.items()):
        if embedding is None:
            message = f"{name} has no {HEAD}, which another model has, and its embedding is not known for certain"
            raise SourceError(message)
    seen = {
        name: HeadOfEmbedding(model, HEAD, embedding) if (embedding := embeddings.get(name)) else model
        for name, model in {base: frame.base, **frame.sources}.items()
    }
    all_shapes = dict(frame.shapes)
    if embedding := embeddings.get(base):
        all_shapes[HEAD] = all_shapes[embedding]
    return replace(
        frame,
        names=tuple(in_order(all_shapes)),
        shapes=all_shapes,
        config={**frame.config, "tie_word_embeddings": False},
        base=seen.pop(base),
        sources=seen,
    )


def reindexed(frame: Frame, rows: RowMap, shapes: Mapping[str, Shapes]) -> Frame:
    """The frame in another vocabulary. `shapes`: model → its tensors. Raises SourceError where it is not certain which
    tensors have a row a token."""
    for name, own in shapes.items():
        check_certain(own, name)
    tensors = frozenset(row_tensors(frame.names))
    base = ReindexedBase(frame.base, frame.sources, rows, tensors)
    config = dict(frame.config)
    inner = config.get("text_config")
    if isinstance(inner, Mapping):
        config["text_config"] = {**inner, "vocab_size": rows.rows}
    if not isinstance(inner, Mapping) or "vocab_size" in config:
        config["vocab_size"] = rows.rows
    return replace(
        frame,
        shapes={name: (rows.rows, *shape[1:]) if name in tensors else shape for name, shape in frame.shapes.items()},
        config=config,
        base=base,
        sources={name: ReindexedSource(name, source, base) for name, source in frame.sources.items()},
    )


class HeadOfEmbedding:
    """A model whose head is its embedding, seen with a head of its own."""

    def __init__(self, inner: Source, head: str, embedding: str) -> None:
        self.folder: Path = inner.folder
        self.config: dict[str, Any] = inner.config
        self._inner = inner
        self._head = head
        self._embedding = embedding

    def changes(self, tensor: str) -> bool:
        """See Source."""
        return self._inner.changes(self._name(tensor))

    def stored(self, tensor: str) -> Tensor | None:
        """See Source."""
        return self._inner.stored(self._name(tensor))

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """See Source."""
        return self._inner.whole_delta(self._name(tensor), device)

    def _name(self, tensor: str) -> str:
        return self._embedding if tensor == self._head else tensor


class ReindexedBase:
    """The base. `tensors` are those with a row a token; `sources` lend it the rows of tokens it lacks."""

    def __init__(self, base: Source, sources: Mapping[str, Source], rows: RowMap, tensors: frozenset[str]) -> None:
        self.folder: Path = base.folder
        self.config: dict[str, Any] = base.config
        self.inner = base
        self.rows = rows
        self.tensors = tensors
        self._sources = sources
        self._means: dict[str, Tensor] = {}

    def changes(self, tensor: str) -> bool:
        """See Source."""
        return True

    def stored(self, tensor: str) -> Tensor | None:
        """See Source; [rows, …] for a tensor with a row a token."""
        if tensor not in self.tensors:
            return self.inner.stored(tensor)
        return self.select(tensor, torch.arange(self.rows.rows), self.rows.own[self.rows.base])

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """Never needed: every value is stored or formed."""
        raise NotImplementedError("a base has weights, not a delta")

    def dtype(self, tensor: str) -> torch.dtype:
        """Of the re-indexed tensor."""
        dtypes = [_stored(self.inner, tensor).dtype]
        for part in self.rows.borrowed:
            owned = [self._sources[name].stored(tensor) for name, _ in part.owners]
            dtypes += [torch.float32 if values is None else values.dtype for values in owned]
            if len(owned) > 1:
                dtypes.append(torch.float32)
        if len(self.rows.averaged):
            dtypes.append(torch.float32)
        return widest(dtypes)

    def select(self, tensor: str, wanted: Tensor, own: Tensor) -> Tensor:
        """Rows `wanted`, int64 [k], of the re-indexed tensor: [k, …], a new tensor. `own`, int64 [rows]: which row each
        is of the base, `rows.own` of it for itself or `rows.lent`; or NONE."""
        values = _stored(self.inner, tensor)
        out = values.new_empty((len(wanted), *values.shape[1:]), dtype=self.dtype(tensor))
        own = own[wanted]
        here = own != NONE
        if bool(here.all()) and out.dtype == values.dtype:
            return torch.index_select(values, 0, own, out=out)
        out[here] = values[own[here]].to(out.dtype)
        place = torch.full((self.rows.rows,), NONE, dtype=torch.int64)
        place[wanted] = torch.arange(len(wanted))
        for part in self.rows.borrowed:
            to = place[part.rows]
            found = to != NONE
            found[found.clone()] = ~here[to[found]]
            if not part.owners:
                out[to[found]] = 0.0
            elif bool(found.any()):
                rows = [self._rows(name, tensor, index[found]) for name, index in part.owners]
                out[to[found]] = (rows[0] if len(rows) == 1 else mean(rows)).to(out.dtype)
        to = place[self.rows.averaged]
        if bool((to != NONE).any()):
            out[to[to != NONE]] = self._mean(tensor).to(out.dtype)
        return out

    def _rows(self, name: str, tensor: str, index: Tensor) -> Tensor:
        """A source's own rows; fp32 where they are formed from a delta."""
        source = self._sources[name]
        stored = source.stored(tensor)
        if stored is not None:
            return stored[index]
        rows = _stored(self.inner, tensor)[index].to(torch.float32)
        return rows.add_(source.whole_delta(tensor)[index]) if source.changes(tensor) else rows

    def _mean(self, tensor: str) -> Tensor:
        """fp64 […]: the mean over the rows that have a token. Kept: it is one row."""
        if tensor not in self._means:
            own = self.rows.own[self.rows.base]
            self._means[tensor] = mean_of_rows(self.rows.tokens, lambda rows: self.select(tensor, rows, own))
        return self._means[tensor]


class ReindexedSource:
    """A source over a re-indexed base: its own rows by token, and what the base lends where it has none."""

    def __init__(self, name: str, source: Source, base: ReindexedBase) -> None:
        self.folder: Path = source.folder
        self.config: dict[str, Any] = source.config
        self._inner = source
        self._base = base
        self._own = base.rows.own[name]
        bases, lacking = base.rows.own[base.rows.base], self._own == NONE
        averaged = torch.zeros_like(lacking)
        averaged[base.rows.averaged] = True
        self._averaged = (lacking & averaged).nonzero().view(-1)
        self._lacking = (lacking & ~averaged).nonzero().view(-1)
        self._given = (lacking & ~averaged & (base.rows.lent != bases)).nonzero().view(-1)  # not the base's own
        self._moved = (~lacking & (self._own != bases)).nonzero().view(-1)  # own, but no change of the base's

    def changes(self, tensor: str) -> bool:
        """See Source."""
        other = len(self._moved) + len(self._given) > 0
        return self._inner.changes(tensor) or (tensor in self._base.tensors and other)

    def stored(self, tensor: str) -> Tensor | None:
        """See Source; [rows, …] for a tensor with a row a token."""
        values = self._inner.stored(tensor)
        if values is None or tensor not in self._base.tensors:
            return values
        dtype = widest([values.dtype, self._base.dtype(tensor)]) if len(self._lacking) else values.dtype
        if len(self._averaged):
            dtype = widest([dtype, torch.float32])
        out = values.new_empty((len(self._own), *values.shape[1:]), dtype=dtype)
        here = self._own != NONE
        out[here] = values[self._own[here]].to(dtype)
        if len(self._lacking):
            out[self._lacking] = self._base.select(tensor, self._lacking, self._base.rows.lent).to(dtype)
        if len(self._averaged):
            out[self._averaged] = mean_of_rows(self._base.rows.tokens, lambda rows: out[rows]).to(dtype)
        return out

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """See Source: an adapter's δ row by row; where the base's own row is another one, (θ + δ) − that row, or what
        the base lends − that row. A mean of rows has the mean of their δ."""
        if tensor not in self._base.tensors:
            return self._inner.whole_delta(tensor, device)
        values = _stored(self._base.inner, tensor)
        change = self._inner.whole_delta(tensor) if self._inner.changes(tensor) else None
        out = torch.zeros((len(self._own), *values.shape[1:]), dtype=torch.float32)
        here = self._own != NONE
        if change is not None:
            out[here] = change[self._own[here]]
        bases = self._base.rows.own[self._base.rows.base]
        if len(self._moved):
            rows = values[self._own[self._moved]].to(torch.float32).add_(out[self._moved])
            out[self._moved] = rows.sub_(self._base.select(tensor, self._moved, bases).to(torch.float32))
        if len(self._given):
            rows = self._base.select(tensor, self._given, self._base.rows.lent).to(torch.float32)
            out[self._given] = rows.sub_(self._base.select(tensor, self._given, bases).to(torch.float32))
        if len(self._averaged):
            out[self._averaged] = mean_of_rows(self._base.rows.tokens, lambda rows: out[rows]).to(torch.float32)
        return out.to(device)


def widest(dtypes: list[torch.dtype]) -> torch.dtype:
    """The dtype that holds them all; bfloat16 and float16 together take float32."""
    return reduce(torch.promote_types, dtypes)


def mean(rows: list[Tensor]) -> Tensor:
    """fp32: added one after another, divided once."""
    total = rows[0].to(torch.float32, copy=True)
    for more in rows[1:]:
        total.add_(more.to(torch.float32))
    return total.div_(len(rows))


def mean_of_rows(wanted: Tensor, select: Callable[[Tensor], Tensor]) -> Tensor:
    """fp64 […]: the mean of the rows `wanted`, int64 [k], of what `select` gives for some of them: [some, …]."""
    runs = torch.split(wanted, BLOCK)
    return pairwise_sum(torch.stack([pairwise_sum(select(run).to(torch.float64)) for run in runs])) / len(wanted)


def pairwise_sum(values: Tensor) -> Tensor:
    """[n, …] → […]: the sum over the first dimension, by halves: the same order on every device."""
    while len(values) > 1:
        half = len(values) // 2
        added = values[:half] + values[half : 2 * half]
        values = torch.cat([added, values[2 * half :]])
    return values[0]


def _stored(source: Source, tensor: str) -> Tensor:
    values = source.stored(tensor)
    assert values is not None, tensor
    return values
