"""A merge made by several processes together, or in memory other than the models': who computes what, and where.

Each of `ranks` processes computes one run of the flat elements of every tensor, and all get the whole. Every process
makes the same plans, of the models' files; only what kernels read and write is placed by a share.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from automerge.merge.kernels.job import Job, Segment
from automerge.merge.plan import Ranked, Term
from automerge.merge.values import Operand

Key = tuple[str, ...]  # names the content of a tensor


class Share(Protocol):
    """This process's part."""

    rank: int
    ranks: int
    device: torch.device

    def room(self, n: int) -> tuple[int, torch.device]:
        """Elements to set aside for a result of n, a multiple of the ranks' parts, and where."""

    def take(self, key: Key | None, part: Tensor) -> Tensor:
        """The values of `part`, a run of a flat tensor on the CPU, on the share's device; not to be written to.

        `key` names the tensor, so that what it holds may be kept; None is for values that are not kept.
        """

    def gather(self, flat: Tensor) -> None:
        """Fills a result (of `room` elements), of which this process has written its part, with the others' parts."""


def part(n: int, rank: int, ranks: int) -> tuple[int, int]:
    """[start, stop) of a rank's flat elements of n. Parts are of one even length, but for the last ones."""
    length = part_length(n, ranks)
    return min(rank * length, n), min((rank + 1) * length, n)


def part_length(n: int, ranks: int) -> int:
    """Elements a rank has room for, even: a pair of 16-bit elements is never cut."""
    return -(-n // (2 * ranks)) * 2


def shared_job(job: Job, share: Share, keys: Sequence[Key | None]) -> Job:
    """This process's part of a whole tensor's job. `keys` name the base and each operand, as Share.take has them."""
    n = job.base.numel()
    start, stop = part(n, share.rank, share.ranks)
    base_key, *operand_keys = keys
    operands = tuple(
        Operand(share.take(None if operand.is_delta else key, _run(operand.values, start, stop)), operand.is_delta)
        for key, operand in zip(operand_keys, job.operands, strict=True)
    )
    plan = job.plan
    if any(isinstance(term.mask, Ranked) for term in plan.terms):
        plan = replace(plan, terms=tuple(_placed(term, share, start, stop) for term in plan.terms))
    return replace(
        job,
        plan=plan,
        base=share.take(base_key, _run(job.base, start, stop)),
        operands=operands,
        out=_run(job.out, start, stop),
        segments=(Segment(0, start, stop - start),) if stop > start else (),
    )


def _run(flat: Tensor, start: int, stop: int) -> Tensor:
    """Elements [start, stop): hundreds of times a merge, so that a view of the whole is not made for nothing."""
    return flat if stop - start == flat.numel() else flat[start:stop]


def _placed(term: Term, share: Share, start: int, stop: int) -> Term:
    if not isinstance(term.mask, Ranked):
        return term
    mask = term.mask
    placed = replace(
        mask,
        ranks=mask.ranks[start:stop].to(share.device),
        levels=mask.levels.to(share.device),
        factors=mask.factors.to(share.device),
    )
    return replace(term, mask=placed)
