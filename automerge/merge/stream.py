"""The merge: a recipe and open models in, one merged tensor after another out, checksummed in the same pass.

It knows no engine and no file format. Peak extra memory is the tensor going out, a few runs of CHUNK elements, and, for
methods that trim, one fp32 copy of the tensor. The bytes depend on the recipe and the models' content alone: elements
are independent of each other, so neither the size of a run nor the number of threads can be seen in them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.check import OUTPUT_DTYPES, check_recipe, merge_values, option_values, source_values
from automerge.merge.checksum import ModelSum, TensorSum
from automerge.merge.layout import group_of
from automerge.merge.masks import MaskStream
from automerge.merge.models import Models
from automerge.merge.piece import Piece, SourcePiece
from automerge.merge.registry import get_method
from automerge.merge.thresholds import threshold_of
from automerge.recipe import Group, Recipe

# Elements a run: its fp32 buffers stay in the cache. From 2^15 elements on torch would split every operation among
# threads, and their barriers made merges six times slower where another process wanted a core.
CHUNK = (1 << 15) - 1


@dataclass(frozen=True)
class _Job:
    """One tensor's parameters, resolved."""

    tensor: str
    values: Mapping[str, Mapping[str, float]]  # by source
    merge_values: Mapping[str, float]
    thresholds: Mapping[str, float]


class Merge:
    """One merge. Construction checks everything a merge needs; `tensors` does the work, as often as it is asked."""

    def __init__(self, recipe: Recipe, models: Models, *, chunk: int = CHUNK) -> None:
        """Raises ConfigError, MergeError or SourceError where recipe and models do not fit."""
        check_recipe(recipe)
        models.check(recipe)
        self.recipe = recipe
        self.models = models
        self.names = models.tensor_names
        self.shapes = models.shapes
        self.dtype: torch.dtype = OUTPUT_DTYPES[recipe.dtype]
        self.sums = ModelSum()
        self._method = get_method(recipe.method)
        self._options = option_values(recipe)
        self._chunk = chunk
        self._groups: dict[str, Group] = {name: group_of(recipe, models.n_layers, name) for name in self.names}

    @property
    def bytes(self) -> int:
        """Size of the merged weights."""
        elements = sum(torch.Size(shape).numel() for shape in self.shapes.values())
        return elements * self.dtype.itemsize

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
        for name in self.names:
            merged, done = self._merge(name)
            self.sums.add(done)
            yield name, merged

    def merge_tensor(self, name: str) -> Tensor:
        """One merged tensor by itself; it does not count towards the model's checksum. Raises as `tensors` does."""
        return self._merge(name)[0]

    def _merge(self, name: str) -> tuple[Tensor, TensorSum]:
        merged = torch.empty(self.shapes[name], dtype=self.dtype)
        flat = merged.view(-1)
        done = TensorSum(name, self.dtype, tuple(merged.shape))
        job = self._job(name)
        for start, stop in self._runs(name):
            run = self._method.merge(self._piece(job, start, stop))
            self._refuse_not_finite(name, run)
            flat[start:stop] = run
            done.add(flat[start:stop], start)
        return merged, done

    def _runs(self, name: str) -> Iterator[tuple[int, int]]:
        """Runs of whole rows where a row is short enough, so that adapters form no row twice."""
        shape = self.shapes[name]
        elements = torch.Size(shape).numel()
        row = torch.Size(shape[1:]).numel()
        step = self._chunk // row * row if 0 < row <= self._chunk else self._chunk
        for start in range(0, elements, step):
            yield start, min(start + step, elements)

    def _job(self, name: str) -> _Job:
        group = self._groups[name]
        values = {ref.name: source_values(self._method, group, ref.name) for ref in self.recipe.sources}
        thresholds: dict[str, float] = {}
        if self._method.thresholds is not None:
            for source, own in values.items():
                share = own[self._method.thresholds]
                if own.get("weight", 1.0) != 0.0:
                    thresholds[source] = threshold_of(self.models, source, name, share, list(self._runs(name)))
        return _Job(name, values, merge_values(self._method, group), thresholds)

    def _piece(self, job: _Job, start: int, stop: int) -> Piece:
        base = self.models.base.values(job.tensor, start, stop)
        sources = []
        for ref in self.recipe.sources:
            source = self.models.sources[ref.name]
            sources.append(
                SourcePiece(
                    values=job.values[ref.name],
                    read_delta=partial(source.delta, job.tensor, base, start, stop),
                    read_weights=partial(source.weights, job.tensor, base, start, stop),
                    stream=MaskStream(self.recipe.seed, ref.digest, job.tensor),
                    start=start,
                    length=stop - start,
                    threshold=job.thresholds.get(ref.name, 0.0),
                )
            )
        return Piece(base, tuple(sources), job.merge_values, self._options)

    def _refuse_not_finite(self, name: str, run: Tensor) -> None:
        # rounding keeps order, so the extremes tell of every element, also of overflow in a narrow output dtype
        extremes = torch.stack(torch.aminmax(run)).to(self.dtype)
        if not bool(torch.isfinite(extremes).all()):
            hint = "Lower the weights, lambda or drop rates, or merge into a wider dtype."
            raise MergeError(f"the merge gives values {self.recipe.dtype} cannot hold", where=name, hint=hint)
