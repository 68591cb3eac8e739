"""One tensor of a merge out of arrays, and a method run on it through the reference kernel: no model, no recipe.

view = make_view([1.0, 2.0], {"a": [1.5, 2.5]}, {"weight": 0.5}, {"lambda": 2.0}, {"normalize": True})
run("task_arithmetic", view)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automerge.merge.checksum import TensorSum
from automerge.merge.kernels import reference
from automerge.merge.kernels.job import Job, whole
from automerge.merge.masks import MaskStream
from automerge.merge.plan import Plan
from automerge.merge.registry import get_method
from automerge.merge.values import Operand
from automerge.merge.view import SourceView, View

Array = Tensor | np.ndarray | Sequence[Any]
Values = Mapping[str, float] | Mapping[str, Mapping[str, float]]


def make_view(
    base: Array,
    sources: Mapping[str, Array | Operand | None],
    values: Values | None = None,
    merge_values: Mapping[str, float] | None = None,
    options: Mapping[str, bool | str] | None = None,
    name: str = "t",
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    digests: Mapping[str, str] | None = None,
) -> View:
    """A source is its weights, an `Operand` (a delta, with `is_delta`), or None where the tensor is the base's own.

    `values` are every source's, {"weight": 1.0}, or by source, {"a": {"weight": 1.0}}. What is left out of values and
    options has the method's default in `run`. Arrays that are no tensors become fp32. `shape` is the base's unless
    given; a source's digest is its name unless given.
    """
    theta = _tensor(base)
    given = dict(values or {})
    by_source = all(isinstance(value, Mapping) for value in given.values()) and bool(given)

    def source(key: str) -> SourceView:
        what = sources[key]
        operand = what if isinstance(what, Operand) else Operand((theta if what is None else _tensor(what)).reshape(-1))
        own: Any = given.get(key, {}) if by_source else given
        stream = MaskStream(seed, (digests or {}).get(key, key), name)
        return SourceView(key, dict(own), what is not None, stream, theta.reshape(-1), lambda device: operand)

    return View(
        name=name,
        shape=tuple(theta.shape) if shape is None else shape,
        base=theta.reshape(-1),
        sources=tuple(source(key) for key in sorted(sources)),
        values=dict(merge_values or {}),
        options=dict(options or {}),
    )


def complete(method_name: str, view: View) -> View:
    """The view with the method's defaults for what it does not say."""
    method = get_method(method_name)
    defaults = {
        scope: {p.name: p.default for p in method.parameters if p.scope == scope} for scope in ("source", "merge")
    }
    return replace(
        view,
        sources=tuple(replace(s, values={**defaults["source"], **s.values}) for s in view.sources),
        values={**defaults["merge"], **view.values},
        options=method.option_values(view.options),
    )


def run(method_name: str, view: View, dtype: torch.dtype = torch.float32) -> Tensor:
    """The merged tensor, in the view's shape. What is elementwise is computed in runs of 7 elements."""
    view = complete(method_name, view)
    work = get_method(method_name).plan(view)
    if not isinstance(work, Plan):
        runs = [work(start, min(start + 7, view.n)) for start in range(0, view.n, 7)]
        assert all(part.dtype == torch.float32 for part in runs)
        return (torch.cat(runs) if runs else torch.empty(0)).to(dtype).view(view.shape)
    job = job_of(view, work, dtype)
    reference.run([job])
    return job.out.view(view.shape)


def job_of(view: View, plan: Plan, dtype: torch.dtype = torch.float32) -> Job:
    """What a kernel gets for the view's plan."""
    operands = {source.name: source for source in view.sources}
    return Job(
        name=view.name,
        plan=plan,
        base=view.base,
        operands=tuple(operands[term.source].operand for term in plan.terms),
        out=torch.empty(view.n, dtype=dtype),
        segments=whole(view.n),
        total=TensorSum(view.name, dtype, view.shape),
    )


def _tensor(values: Array) -> Tensor:
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.array(values, dtype=np.float32))
