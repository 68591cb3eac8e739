"""The merge: a recipe and open models in, one merged tensor after another out, checksummed in the same pass.

It knows no engine and no file format. Tensors are merged in batches, one call of the kernel each; peak extra memory is
one batch: what goes out of it and, in fp32, what adapters change of it; and the one before, while the receiver holds a
tensor of it. The bytes depend on the recipe and the models' content alone: elements are independent of each other, so
neither batches nor threads can be seen in them.
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
from automerge.merge.kernels.job import Job, Kernel, whole
from automerge.merge.layout import group_of
from automerge.merge.loans import POOL, Loan, room
from automerge.merge.masks import MaskStream
from automerge.merge.models import Models
from automerge.merge.plan import Elementwise, Plan, Term
from automerge.merge.registry import Method, get_method
from automerge.merge.share import Key, Share, part, shared_job
from automerge.merge.sources.source import CPU, Source
from automerge.merge.values import Operand
from automerge.merge.view import SourceView, View
from automerge.recipe import Group, Recipe
from automerge.records import to_json

# Of merged tensors and adapters' deltas: enough for a kernel to keep every core busy, little beside a model.
BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class _Piece:
    """One tensor on its way: what is to be computed of it, and where it goes."""

    name: str
    view: View
    work: Plan | Elementwise
    out: Tensor
    total: TensorSum


class _Rules:
    """A group's parameters: each source's, and the merge's."""

    def __init__(self, method: Method, group: Group, recipe: Recipe) -> None:
        self.sources = {source.name: source_values(method, group, source.name) for source in recipe.sources}
        self.merge = merge_values(method, group)


class Merge:
    """One merge. Construction checks everything a merge needs; `tensors` does the work, as often as it is asked."""

    def __init__(
        self,
        recipe: Recipe,
        models: Models,
        *,
        kernel: Kernel | None = None,
        batch_bytes: int = BATCH_BYTES,
        share: Share | None = None,
    ) -> None:
        """With a `share`, this process computes its part of every tensor, where the share says.

        Raises ConfigError, MergeError or SourceError where recipe and models do not fit.
        """
        check_recipe(recipe)
        models.check(recipe)
        self.recipe = recipe
        self.frame: Frame = models.frame(recipe)
        self.names = self.frame.names
        self.shapes = self.frame.shapes
        self.dtype: torch.dtype = OUTPUT_DTYPES[recipe.dtype]
        self.totals: list[TensorSum] = []
        self._share = share
        self._method = get_method(recipe.method)
        self._options = self._method.option_values(recipe.options)
        self._kernel = kernel
        self._batch_bytes = batch_bytes
        self._digests = {ref.name: ref.digest for ref in (recipe.base, *recipe.sources)}
        vocabulary = to_json(recipe.vocabulary) if recipe.vocabulary else ""
        self._content = (recipe.tokenizer, vocabulary, to_json(recipe.slices))  # what a model's tensors depend on
        rules = {id(group): _Rules(self._method, group, recipe) for group in recipe.groups}
        self._rules = {name: rules[id(group_of(recipe, self.frame.n_layers, name))] for name in self.names}

    @property
    def bytes(self) -> int:
        """Size of the merged weights."""
        return sum(self._bytes(name) for name in self.names)

    @property
    def checksum(self) -> str:
        """The merged model's checksum, 32 hex digits. Raises MergeError before `tensors` is exhausted."""
        if len(self.totals) != len(self.names):
            raise MergeError("the checksum is known when every tensor has been merged")
        sums = ModelSum()
        for total in self.totals:
            sums.add(total)
        return sums.hexdigest()

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, merged tensor) in the order of `names`, in the output dtype. The receiver may keep the tensor.

        Raises MergeError naming a tensor whose merged values are not finite.
        """
        for name, tensor, finite in self.judged_tensors():
            self._refuse_not_finite(name, finite)
            yield name, tensor
            del tensor  # its memory is lent again once nobody holds it

    def judged_tensors(self) -> Iterator[tuple[str, Tensor, bool]]:
        """As `tensors`, with whether the values are finite (as far as this process's share goes), and no error if not.

        Processes that share a merge must all come to its end: those that stopped would be waited for.
        """
        self.totals = []
        for batch in self._batches():
            loan = POOL.lend(sum(self._room(name) for name in batch))
            pieces = [self._piece(name, loan) for name in batch]
            del loan
            judged = self._run(pieces)
            while pieces:
                piece, finite = pieces.pop(0), judged.pop(0)
                self.totals.append(piece.total)
                name, tensor = piece.name, self._whole(piece)
                del piece
                yield name, tensor, finite
                del tensor

    def hold(self) -> None:
        """Has the share take in every full checkpoint's values, before a merge needs them."""
        if self._share is None:
            return
        for name in self.names:
            held = {self._under(name): self.frame.base.stored(name)}
            for source_name, source in self.frame.sources_of(name).items():
                if source.changes(name):
                    held[self._key(source_name, name)] = source.stored(name)
            for key, values in held.items():
                if key is not None and values is not None:
                    start, stop = part(values.numel(), self._share.rank, self._share.ranks)
                    self._share.take(key, values.reshape(-1)[start:stop])

    def merge_tensor(self, name: str) -> Tensor:
        """One merged tensor by itself; it does not count towards the model's checksum. Raises as `tensors` does."""
        piece = self._piece(name)
        (finite,) = self._run([piece])
        self._refuse_not_finite(name, finite)
        return self._whole(piece)

    def job(self, name: str) -> Job | None:
        """What a kernel is given for a tensor; None where the method's work on it is no Plan."""
        piece = self._piece(name)
        return self._job(piece, piece.work) if isinstance(piece.work, Plan) else None

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
        return self._bytes(name) + deltas * self.frame.sizes[name] * torch.float32.itemsize

    def _bytes(self, name: str) -> int:
        return self.frame.sizes[name] * self.dtype.itemsize

    def _room(self, name: str) -> int:
        n = self.frame.sizes[name]
        return room(n if self._share is None else self._share.room(n)[0], self.dtype)

    def _piece(self, name: str, loan: Loan | None = None) -> _Piece:
        view = self._view(name)
        size, device = (view.n, view.base.device) if self._share is None else self._share.room(view.n)
        if loan is None or device.type != "cpu":
            out = torch.empty(size, dtype=self.dtype, device=device)
        else:
            out = loan.cut(size, self.dtype)
        work = self._as_it_is(view) if name in self.frame.as_is else self._method.plan(view)
        return _Piece(name, view, work, out, TensorSum(name, self.dtype, view.shape))

    def _run(self, pieces: list[_Piece]) -> list[bool]:
        """Whether each piece's values are finite."""
        planned = [(piece.name, self._job(piece, piece.work)) for piece in pieces if isinstance(piece.work, Plan)]
        kernel = self._kernel or choose(pieces[0].out.device)
        finite = dict(zip((name for name, _ in planned), kernel([job for _, job in planned]), strict=True))
        for piece in pieces:
            if not isinstance(piece.work, Plan):
                finite[piece.name] = self._elementwise(piece, piece.work)
        return [finite[piece.name] for piece in pieces]

    def _job(self, piece: _Piece, plan: Plan) -> Job:
        view = piece.view
        by_name = {source.name: source for source in view.sources}
        device = self._share.device if self._share is not None else CPU
        operands = tuple(by_name[term.source].operand_for(device) for term in plan.terms)
        job = Job(piece.name, plan, view.base, operands, piece.out, whole(view.n), piece.total)
        if self._share is None:
            return job
        base = self._under(piece.name)  # of a tensor that an adapter leaves alone, too
        models = [self._key(t.source, piece.name) if by_name[t.source].changes else base for t in plan.terms]
        return shared_job(job, self._share, [base, *models])

    def _as_it_is(self, view: View) -> Plan:
        """What lies under the tensor, and the whole deltas of those that take part in it."""
        terms = tuple(Term(source.name, 1.0) for source in view.sources if source.changes)
        mixture = self.recipe.mixture
        rows = mixture is not None and not self.frame.as_is[view.name].model
        return Plan("delta", terms, base=1.0 / mixture.temperature if mixture is not None and rows else 1.0)

    def _key(self, model: str, tensor: str) -> Key:
        """Names a model's tensor by its content."""
        return (self._digests[model], tensor, *self._content)

    def _under(self, name: str) -> Key | None:
        """What lies under a tensor of the result; None: nothing that is to be kept."""
        taken = self.frame.as_is.get(name)
        if taken is None:
            return self._key(self.recipe.base.name, name)
        return self._key(taken.model, taken.tensor) if taken.model else None

    def _elementwise(self, piece: _Piece, work: Elementwise) -> bool:
        """Computed in every process, on the CPU; the first one counts it."""
        share, n = self._share, piece.view.n
        if share is None:
            return reference.run_elementwise(work, piece.out, piece.total)
        out = torch.empty(n, dtype=self.dtype)
        total = piece.total if share.rank == 0 else TensorSum(piece.name, self.dtype, piece.view.shape)
        finite = reference.run_elementwise(work, out, total)
        piece.out[:n] = out
        return finite

    def _whole(self, piece: _Piece) -> Tensor:
        flat = piece.out
        if self._share is not None:
            if isinstance(piece.work, Plan):
                self._share.gather(flat)
            flat = flat[: piece.view.n]
        return flat.view(self.shapes[piece.name])

    def _view(self, name: str) -> View:
        rules = self._rules[name]
        base = self.frame.base.stored(name)
        if base is None:
            raise MergeError("the base has no stored values", where=name)
        flat = base.reshape(-1)
        sources = tuple(
            SourceView(
                name=source_name,
                values=rules.sources[source_name],
                changes=source.changes(name),
                stream=MaskStream(self.recipe.seed, self._digests[source_name], name),
                base=flat,
                load=partial(_operand, source, name),
            )
            for source_name, source in self.frame.sources_of(name).items()
        )
        return View(name, tuple(self.shapes[name]), flat, sources, rules.merge, self._options, self.frame.kept)

    def _refuse_not_finite(self, name: str, finite: bool) -> None:
        if not finite:
            hint = "Lower the weights, lambda or drop rates, or merge into a wider dtype."
            raise MergeError(f"the merge gives values {self.recipe.dtype} cannot hold", where=name, hint=hint)


def _operand(source: Source, tensor: str, device: torch.device) -> Operand:
    stored = source.stored(tensor)
    if stored is not None:
        return Operand(stored.reshape(-1))
    return Operand(source.whole_delta(tensor, device).view(-1), is_delta=True)
