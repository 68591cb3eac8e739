"""Where each program of a launch finds its elements: tables of addresses, kept on the device from merge to merge.

They depend on the buffers and segments alone, so a search, which changes only scalars, sends them once. A segment is
cut where the masks' keys change (every 2^33 elements). Its end that fills no program, and the last few elements of
that, fewer than 16, go to launches of their own: all else is read 16 bytes a thread, without a look at where it ends.

| table | shape | what |
|---|---|---|
| owners | int32 [programs] | the segment each program works on |
| segments | int64 [segments, columns] | cuda_kind.py |
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automerge.merge.checksum import cuts_pair, pair_cut
from automerge.merge.kernels.buffers import check_buffers
from automerge.merge.kernels.cuda_kind import FULL, NARROW, PARTIAL, SEGMENT_COLUMNS, TERM_COLUMNS, Kind, kind_of
from automerge.merge.kernels.job import Job
from automerge.merge.masks import BLOCK
from automerge.merge.plan import Ranked

STEP = 16  # elements: what a PARTIAL segment's length is a multiple of
ALIGNMENT = 16  # bytes
KEPT = 64  # layouts

Pieces = NDArray[np.int64]  # [pieces, 3]: local, flat, length


@dataclass(frozen=True)
class Launch:
    """One launch: `rows` says which (job, block of 2^33 elements) each row of scalars is of."""

    kind: Kind
    read: int  # FULL, PARTIAL or NARROW
    pairs: int  # of elements a program
    owners: Tensor
    segments: Tensor
    rows: tuple[tuple[int, int], ...]


class Layouts:
    """The layouts made last, found again by the jobs' buffers, segments and kinds."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Any, list[Launch]]] = deque(maxlen=KEPT)

    def of(self, jobs: Sequence[Job], pairs: int, device: torch.device) -> list[Launch]:
        """The launches of these jobs, at most `pairs` pairs of elements a program.

        Raises MergeError for a job that cannot run.
        """
        kinds = [kind_of(job) for job in jobs]
        addresses = [_addresses(job) for job in jobs]
        sizes = [(job.base.numel(), job.total.shape, job.segments) for job in jobs]
        key = (device, pairs, addresses, kinds, sizes)
        for kept, launches in self._kept:
            if kept == key:
                return launches
        for job in jobs:
            check_buffers(job, device.type)
        launches = _layout(jobs, kinds, addresses, pairs, device)
        self._kept.append((key, launches))
        return launches


def _addresses(job: Job) -> list[int]:
    """In the order of the columns: base, out, and four a term."""
    found = [job.base.data_ptr(), job.out.data_ptr()]
    for term, operand in zip(job.plan.terms, job.operands, strict=True):
        mask = term.mask
        found.append(operand.values.data_ptr())
        if isinstance(mask, Ranked):
            found += [mask.ranks.data_ptr(), mask.levels.data_ptr(), mask.factors.data_ptr()]
        else:
            found += [0, 0, 0]
    return found


def _layout(
    jobs: Sequence[Job], kinds: list[Kind], addresses: list[list[int]], pairs: int, device: torch.device
) -> list[Launch]:
    found: dict[tuple[Kind, int], _Tables] = {}
    for position, (job, kind) in enumerate(zip(jobs, kinds, strict=True)):
        pieces = _pieces(job)
        taken = kind.pairs(pairs)
        for block in np.unique(pieces[:, 1] // BLOCK).tolist():
            inside = pieces[pieces[:, 1] // BLOCK == block]
            for read, some in _split(inside, addresses[position], taken):
                tables = found.setdefault((kind, read), _Tables(taken))
                tables.add(job, position, block, some, addresses[position])
    return [tables.launch(kind, read, device) for (kind, read), tables in found.items()]


def _pieces(job: Job) -> Pieces:
    """The job's segments, cut at the borders of blocks, without empty ones."""
    cut = []
    for segment in job.segments:
        local, flat, length = segment.local, segment.flat, segment.length
        while length > 0:
            run = min(length, BLOCK - flat % BLOCK)
            cut.append((local, flat, run))
            local, flat, length = local + run, flat + run, length - run
    pieces = np.array(cut, dtype=np.int64).reshape(-1, 3)
    if job.out.element_size() == 2:
        _check_pairs(job, pieces)
    return pieces


def _check_pairs(job: Job, pieces: Pieces) -> None:
    """As TensorSum.add does: a pair of 16-bit elements is one word of the checksum."""
    cut = cuts_pair(pieces[:, 1], pieces[:, 1] + pieces[:, 2], torch.Size(job.total.shape).numel())
    for _, flat, length in pieces[cut]:
        raise pair_cut(job.name, flat, flat + length)


def _split(pieces: Pieces, addresses: list[int], pairs: int) -> Iterator[tuple[int, Pieces]]:
    """How to read which pieces: FULL what fills programs, PARTIAL most of the rest, NARROW all that is not aligned."""
    fits = (pieces[:, 0] % 8 == 0) & (pieces[:, 1] % 2 == 0)  # 8 elements are 16 bytes at least
    # levels and factors, the last two of a term's four, are read element by element
    streamed = [address for column, address in enumerate(addresses) if column < 2 or (column - 2) % TERM_COLUMNS < 2]
    if any(address % ALIGNMENT for address in streamed):
        fits[:] = False
    for read, step in ((FULL, 2 * pairs), (PARTIAL, STEP), (NARROW, 1)):
        length = pieces[:, 2] // step * step
        if read != NARROW:
            length[~fits] = 0
        taken = np.stack([pieces[:, 0], pieces[:, 1], length], axis=1)
        if length.any():
            yield read, taken[length > 0]
        pieces = pieces + length[:, None] * np.array([1, 1, -1])


class _Tables:
    """Gathers the segments of one launch."""

    def __init__(self, pairs: int) -> None:
        self._pairs = pairs
        self._segments: list[NDArray[np.int64]] = []
        self._programs: list[NDArray[np.int64]] = []  # a segment
        self._rows: list[tuple[int, int]] = []
        self._next = 0

    def add(self, job: Job, position: int, block: int, pieces: Pieces, addresses: list[int]) -> None:
        local, flat, length = pieces.T
        programs = (length + flat % 2 + 2 * self._pairs - 1) // (2 * self._pairs)
        table = np.zeros((len(pieces), SEGMENT_COLUMNS + len(addresses) - 2), dtype=np.int64)
        columns = [0, 1, *range(SEGMENT_COLUMNS, table.shape[1])]
        table[:, columns] = np.array(addresses) + local[:, None] * _bytes_an_element(job)
        table[:, 2], table[:, 3] = flat, length
        table[:, 4] = self._next + np.cumsum(programs) - programs
        table[:, 5], table[:, 6] = len(self._rows), position
        self._segments.append(table)
        self._programs.append(programs)
        self._rows.append((position, block))
        self._next += int(programs.sum())

    def launch(self, kind: Kind, read: int, device: torch.device) -> Launch:
        segments = np.concatenate(self._segments)
        owners = np.repeat(np.arange(len(segments), dtype=np.int32), np.concatenate(self._programs))
        start = -(-segments.nbytes // ALIGNMENT) * ALIGNMENT
        buffer = np.zeros(start + owners.nbytes, dtype=np.uint8)  # both tables travel together
        buffer[: segments.nbytes] = segments.view(np.uint8).reshape(-1)
        buffer[start:] = owners.view(np.uint8)
        sent = send(buffer, device)
        return Launch(
            kind=kind,
            read=read,
            pairs=self._pairs,
            owners=sent[start:].view(torch.int32),
            segments=sent[: segments.nbytes].view(torch.int64),
            rows=tuple(self._rows),
        )


def _bytes_an_element(job: Job) -> NDArray[np.int64]:
    """How far each address moves an element, in the order of `_addresses`."""
    found = [job.base.element_size(), job.out.element_size()]
    for operand in job.operands:
        found += [operand.values.element_size(), 2, 0, 0]
    return np.array(found, dtype=np.int64)


def send(table: NDArray[Any], device: torch.device) -> Tensor:
    """The table on the device, by one transfer that nothing waits for."""
    tensor = torch.from_numpy(table)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
