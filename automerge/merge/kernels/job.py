"""One tensor's merge with everything a kernel reads and writes. It knows no method and no file.

Buffers are flat and contiguous. A job covers a whole tensor, or a slice of one (a tensor-parallel rank's shard): its
segments say which of the tensor's flat elements its buffers hold, for masks and checksum depend on those alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from automerge.merge.checksum import TensorSum
from automerge.merge.plan import Plan
from automerge.merge.values import Operand


@dataclass(frozen=True)
class Segment:
    """`length` neighbours: element `local` … of the buffers are the flat elements `flat` … of the whole tensor."""

    local: int
    flat: int
    length: int


@dataclass(frozen=True)
class Job:
    """`base` and each operand's values are float32, bfloat16 or float16 [n]; `out` [n] is written, in its own dtype.

    One operand a term, in the terms' order. A Ranked mask's `ranks` are [n] too. `total` receives the checksum of
    what was written.
    """

    name: str
    plan: Plan
    base: Tensor
    operands: tuple[Operand, ...]
    out: Tensor
    segments: tuple[Segment, ...]
    total: TensorSum


class Kernel(Protocol):
    """Runs jobs: writes each `out`, adds to each `total`."""

    def __call__(self, jobs: Sequence[Job]) -> list[bool]:
        """For each job, whether every value written is finite."""


def whole(n: int) -> tuple[Segment, ...]:
    """The segments of a job that covers a tensor of n elements."""
    return (Segment(0, 0, n),)
