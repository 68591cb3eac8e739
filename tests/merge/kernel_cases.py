"""Random jobs for tests of kernels: every dtype, mask and flag, odd sizes, segments, buffers that are not aligned."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from automerge.merge.checksum import TensorSum
from automerge.merge.kernels import reference
from automerge.merge.kernels.job import Job, Kernel, Segment, whole
from automerge.merge.masks import MaskStream
from automerge.merge.plan import Band, Drop, Mask, Plan, Ranked, Term
from automerge.merge.steps import fp32
from automerge.merge.values import Operand

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MASKS = ("none", "drop", "band", "ranked")
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


@dataclass(frozen=True)
class Source:
    """What makes a term and its operand."""

    dtype: torch.dtype
    mask: str
    factor: float
    is_delta: bool = False


@dataclass(frozen=True)
class Case:
    """What makes a job; everything else follows from `seed`. `skewed` puts the buffers off alignment."""

    seed: int
    n: int
    base: torch.dtype
    out: torch.dtype
    sources: tuple[Source, ...]
    plan: Plan  # without terms
    skewed: bool = False
    wild: bool = False  # any finite bit pattern, not only ordinary numbers
    cuts: tuple[int, ...] = ()  # in pairs: where the buffers' elements are cut into segments
    flat: int = 0  # of the first element; even


FACTORS = st.one_of(st.sampled_from([1.0, -1.0, 0.5, 1 / 3, -0.7, 1e-40]), st.floats(-3, 3))
PLANS = st.builds(
    Plan,
    operand=st.sampled_from(["delta", "weights"]),
    terms=st.just(()),
    elect=st.booleans(),
    divide=st.booleans(),
    divisor=st.sampled_from([1.0, 3.0, 0.7, -1.3]),
    base=st.sampled_from([0.0, 1.0, 0.3, -0.5]),
    factor=st.sampled_from([1.0, 0.0, 0.9, -1.5]),
)
SOURCES = st.builds(Source, st.sampled_from(DTYPES), st.sampled_from(MASKS), FACTORS).flatmap(
    lambda source: (
        st.just(source) if source.dtype != torch.float32 else st.sampled_from([source, replace(source, is_delta=True)])
    )
)
CASES = st.builds(
    Case,
    seed=st.integers(0, 2**32),
    n=st.one_of(st.sampled_from([0, 1, 2, 15, 16, 17, 128, 256]), st.integers(0, 400)),
    base=st.sampled_from(DTYPES),
    out=st.sampled_from(DTYPES),
    sources=st.lists(SOURCES, max_size=4).map(tuple),
    plan=PLANS,
    skewed=st.booleans(),
    wild=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=3).map(lambda cuts: tuple(sorted(cuts))),
    flat=st.sampled_from([0, 16, 2, 2**32 + 6, 2**33 - 16, 2**33 - 130]),
)


def job_of(case: Case, name: str = "t") -> Job:
    """The case's job, on the CPU."""
    random = torch.Generator().manual_seed(case.seed)
    base = _values(case, case.base, random)
    operands = tuple(Operand(_values(case, s.dtype, random), s.is_delta) for s in case.sources)
    terms = tuple(_term(case, i, source, name, random) for i, source in enumerate(case.sources))
    return Job(
        name=name,
        plan=replace(case.plan, terms=terms),
        base=base,
        operands=operands,
        out=_place(torch.zeros(case.n, dtype=case.out), case.skewed),
        segments=_segments(case),
        total=TensorSum(name, case.out, (case.flat + case.n,)),
    )


def on(job: Job, device: str) -> Job:
    """The same job on a device, with a total and an output of its own (aligned as it was)."""

    def move(values: Tensor) -> Tensor:
        return _place(values, values.data_ptr() % 16 != 0, device)

    terms = tuple(replace(term, mask=_move_mask(term.mask, device)) for term in job.plan.terms)
    return replace(
        job,
        plan=replace(job.plan, terms=terms),
        base=move(job.base),
        operands=tuple(replace(operand, values=move(operand.values)) for operand in job.operands),
        out=move(job.out),
        total=TensorSum(job.total.name, job.total.dtype, job.total.shape),
    )


def check(kernel: Kernel, jobs: list[Job], device: str) -> None:
    """The kernel gives the reference's bytes, sums and flags. Where a value is NaN, its bits and the sums are open."""
    theirs = [on(job, device) for job in jobs]
    assert kernel(theirs) == reference.run(jobs)
    for job, other in zip(jobs, theirs, strict=True):
        got = other.out.cpu()
        if bool(torch.isnan(job.out).any()):
            torch.testing.assert_close(got, job.out, rtol=0, atol=0, equal_nan=True)
        else:
            bits = BITS[job.out.dtype]
            assert got.view(bits).tolist() == job.out.view(bits).tolist(), job.plan
            assert (other.total.a, other.total.b) == (job.total.a, job.total.b), job.plan


def _values(case: Case, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    values = torch.randn(case.n, generator=random).to(dtype)
    values[torch.rand(case.n, generator=random) < 0.1] = 0.0
    values[torch.rand(case.n, generator=random) < 0.1] = -0.0
    if case.wild:
        bits = torch.randint(-(2**31), 2**31, (case.n,), generator=random).to(torch.int32)
        drawn = (bits if dtype == torch.float32 else bits.to(torch.int16)).view(dtype)
        values = torch.where(torch.isfinite(drawn), drawn, values)
    return _place(values, case.skewed)


def _term(case: Case, i: int, source: Source, name: str, random: torch.Generator) -> Term:
    weight = float(torch.randint(-1, 3, (1,), generator=random)) * 0.5
    return Term(f"s{i}", source.factor, weight, _mask(case, source.mask, f"{name}{i}", random))


def _mask(case: Case, kind: str, source: str, random: torch.Generator) -> Mask | None:
    def number(high: int) -> int:
        return int(torch.randint(0, high, (1,), generator=random))

    stream = MaskStream(case.seed, source, "t")
    if kind == "drop":
        return Drop((0, 1, 65535, number(65536))[number(4)], stream)
    if kind == "band":
        return Band(fp32(number(4) / 4), (float("inf"), fp32(1.0 + number(5) / 4))[number(2)])
    if kind == "ranked":
        count = 1 + number(50)
        ranks = torch.randint(0, count, (case.n,), generator=random).to(torch.int32).numpy().astype(np.uint16)
        levels = torch.randint(0, 65536, (count,), generator=random).to(torch.int32)
        factors = torch.randn(count, generator=random)
        return Ranked(_place(torch.from_numpy(ranks), case.skewed), levels, factors, stream)
    return None


def _move_mask(mask: Mask | None, device: str) -> Mask | None:
    if not isinstance(mask, Ranked):
        return mask
    ranks = _place(mask.ranks, mask.ranks.data_ptr() % 16 != 0, device)
    return replace(mask, ranks=ranks, levels=mask.levels.to(device), factors=mask.factors.to(device))


def _place(values: Tensor, skewed: bool, device: str = "cpu") -> Tensor:
    """A copy that begins at a multiple of 16 bytes, or one element behind it."""
    room = torch.empty(values.numel() + 64, dtype=values.dtype, device=device)
    size = values.element_size()
    start = -(room.data_ptr() // size) % (16 // size) + skewed
    placed = room[start : start + values.numel()]
    return placed.copy_(values)


def _segments(case: Case) -> tuple[Segment, ...]:
    """fp32 outputs are also cut inside a pair."""
    if not case.cuts and not case.flat:
        return whole(case.n)
    odd = int(case.out == torch.float32 and case.skewed)
    borders = [0, *(min(max(2 * cut - odd, 0), case.n) for cut in case.cuts), case.n]
    return tuple(Segment(start, case.flat + start, stop - start) for start, stop in pairwise(borders))


def shard(job: Job, shape: tuple[int, ...], dim: int, start: int, stop: int, total: TensorSum) -> Job:
    """The part of a whole tensor's job that computes [start, stop) along `dim`, with buffers of its own.

    The shards' `total`s, added up, are the tensor's.
    """

    def cut(flat: Tensor) -> Tensor:
        return flat.view(shape).narrow(dim, start, stop - start).contiguous().view(-1)

    terms = tuple(
        replace(term, mask=replace(term.mask, ranks=cut(term.mask.ranks))) if isinstance(term.mask, Ranked) else term
        for term in job.plan.terms
    )
    inner = torch.Size(shape[dim + 1 :]).numel()
    outer = torch.Size(shape[:dim]).numel()
    run, stride = (stop - start) * inner, shape[dim] * inner
    segments = tuple(Segment(row * run, row * stride + start * inner, run) for row in range(outer) if run)
    return Job(
        name=job.name,
        plan=replace(job.plan, terms=terms),
        base=cut(job.base),
        operands=tuple(replace(operand, values=cut(operand.values)) for operand in job.operands),
        out=torch.empty(run * outer, dtype=job.out.dtype, device=job.out.device),
        segments=segments,
        total=total,
    )
