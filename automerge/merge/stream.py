"""The merge: a recipe and open models in, one merged tensor after another out, checksummed in the same pass.

It knows no engine and no file format. Tensors are merged in batches, one call of the kernel each; peak extra memory is
one batch: what goes out of it and, in fp32, what adapters change of it. The bytes depend on the recipe and the models'
content alone: elements are independent of each other, so neither batches nor threads can be seen in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.check import OUTPUT_DTYPES, check_recipe, merge_values, source_values
from automerge.merge.checksum import ModelSum, TensorSum
from automerge.merge.frame import Frame
from automerge.merge.kernels import choose, reference
from automerge.merge.kernels.job import Job, Kernel, Operand, whole
from automerge.merge.layout import group_of
from automerge.merge.masks import MaskStream
from automerge.merge.models import Models
from automerge.merge.plan import Plan
from automerge.merge.registry import get_method
from automerge.merge.sources.source import Source
from automerge.merge.view import Elementwise, SourceView, View
from automerge.recipe import Group, Recipe

# Of merged tensors and adapters' deltas: enough for a kernel to keep every core busy, little beside a model.
BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class _Piece:
    """One tensor on its way: what is to be computed of it, and where it goes."""

    name: str
    view: View
    work: Plan | Elementwise
    out: Tensor
    total: TensorSum


class Merge:
    """One merge. Construction checks everything a merge needs; `tensors` does the work, as often as it is asked."""

    def __init__(
        self, recipe: Recipe, models: Models, *, kernel: Kernel | None = None, batch_bytes: int = BATCH_BYTES
    ) -> None:
        """Raises ConfigError, MergeError or SourceError where recipe and models do not fit."""
        check_recipe(recipe)
        models.check(recipe)
        self.recipe = recipe
        self.frame: Frame = models.frame(recipe)
        self.names = self.frame.names
        self.shapes = self.frame.shapes
        self.dtype: torch.dtype = OUTPUT_DTYPES[recipe.dtype]
        self.sums = ModelSum()
        self._method = get_method(recipe.method)
        self._options = self._method.option_values(recipe.options)
        self._kernel = kernel
        self._batch_bytes = batch_bytes
        self._digests = {ref.name: ref.digest for ref in recipe.sources}
        self._groups: dict[str, Group] = {name: group_of(recipe, self.frame.n_layers, name) for name in self.names}

    @property
    def bytes(self) -> int:
        """Size of the merged weights."""
        return sum(self._bytes(name) for name in self.names)

    @property
    def checksum(self) -> str:
        """The merged model's checksum, 32 hex digits. Raises MergeError before `tensors` is exhausted."""
        if len(self.sums.tensors) != len(self.names):
            raise MergeError("the checksum is known when every tensor has been merged")
        return self.sums.hexdigest()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, merged tensor) in the order of `names`, in the output dtype. The receiver may keep the tensor.

        Raises MergeError naming a tensor whose merged values are not finite.
        """
        self.sums = ModelSum()
        for batch in self._batches():
            pieces = [self._piece(name) for name in batch]
            self._run(pieces)
            while pieces:
                piece = pieces.pop(0)
                self.sums.add(piece.total)
                yield piece.name, piece.out.view(self.shapes[piece.name])

    def merge_tensor(self, name: str) -> Tensor:
        """One merged tensor by itself; it does not count towards the model's checksum. Raises as `tensors` does."""
        piece = self._piece(name)
        self._run([piece])
        return piece.out.view(self.shapes[name])

    def job(self, name: str) -> Job | None:
        """What a kernel is given for a tensor; None where the method's work on it is no Plan."""
        piece = self._piece(name)
        return _job(piece, piece.work) if isinstance(piece.work, Plan) else None

    def _batches(self) -> Iterator[list[str]]:
        batch: list[str] = []
        size = 0
        for name in self.names:
            held = self._held(name)
            if batch and size + held > self._batch_bytes:
                yield batch
                batch, size = [], 0
            batch.append(name)
            size += held
        if batch:
            yield batch

    def _held(self, name: str) -> int:
        """Bytes that are held for a tensor until its batch is done: what goes out, and the deltas of adapters."""
        deltas = sum(
            source.changes(name) and source.stored(name) is None for source in self.frame.sources_of(name).values()
        )
        return self._bytes(name) + deltas * torch.Size(self.shapes[name]).numel() * torch.float32.itemsize

    def _bytes(self, name: str) -> int:
        return torch.Size(self.shapes[name]).numel() * self.dtype.itemsize

    def _piece(self, name: str) -> _Piece:
        view = self._view(name)
        out = torch.empty(view.n, dtype=self.dtype, device=view.base.device)
        return _Piece(name, view, self._method.plan(view), out, TensorSum(name, self.dtype, view.shape))

    def _run(self, pieces: list[_Piece]) -> None:
        planned = [(piece, _job(piece, piece.work)) for piece in pieces if isinstance(piece.work, Plan)]
        kernel = self._kernel or choose(pieces[0].out.device)
        finite = kernel([job for _, job in planned])
        for (piece, _), fine in zip(planned, finite, strict=True):
            self._refuse_not_finite(piece.name, fine)
        for piece in pieces:
            if not isinstance(piece.work, Plan):
                fine = reference.run_elementwise(piece.work, piece.out, piece.total)
                self._refuse_not_finite(piece.name, fine)

    def _view(self, name: str) -> View:
        group = self._groups[name]
        base = self.frame.base.stored(name)
        if base is None:
            raise MergeError("the base has no stored values", where=name)
        flat = base.reshape(-1)
        sources = tuple(
            SourceView(
                name=source_name,
                values=source_values(self._method, group, source_name),
                changes=source.changes(name),
                stream=MaskStream(self.recipe.seed, self._digests[source_name], name),
                base=flat,
                load=partial(_operand, source, name),
            )
            for source_name, source in self.frame.sources_of(name).items()
        )
        values = merge_values(self._method, group)
        return View(name, tuple(self.shapes[name]), flat, sources, values, self._options, self.frame.kept)

    def _refuse_not_finite(self, name: str, finite: bool) -> None:
        if not finite:
            hint = "Lower the weights, lambda or drop rates, or merge into a wider dtype."
            raise MergeError(f"the merge gives values {self.recipe.dtype} cannot hold", where=name, hint=hint)


def _operand(source: Source, tensor: str) -> Operand:
    stored = source.stored(tensor)
    if stored is not None:
        return Operand(stored.reshape(-1))
    return Operand(source.whole_delta(tensor).view(-1), is_delta=True)


def _job(piece: _Piece, plan: Plan) -> Job:
    by_name = {source.name: source for source in piece.view.sources}
    operands = tuple(by_name[term.source].operand for term in plan.terms)
    return Job(piece.name, plan, piece.view.base, operands, piece.out, whole(piece.view.n), piece.total)
