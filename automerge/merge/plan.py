"""What is computed for one tensor, as data: the form that nearly every method comes to, and that every kernel runs.

A method turns its parameters, and what it has to measure of a whole tensor, into a Plan; a kernel (kernels/) reads the
weights once and writes the merged values. It knows no method, file or device.

| symbol | meaning | here |
|---|---|---|
| θ | base, fp32 [n] | |
| o_i | operand of source i, fp32 [n]: its delta δ_i = x_i − θ, or its weights x_i | `Plan.operand` |
| m_i | its mask, 0 or 1 [n] | `Term.mask` |
| k_i | its factor | `Term.factor` |
| w_i | what it adds to the divisor | `Term.weight` |

The order of maths, which every kernel repeats bit for bit. All of it is fp32, one rounding an operation, never a fused
multiply-add, a reciprocal instead of a division, or a sum in another order; scalars are float64 on the host and are
rounded to fp32 once:
  1. δ = x − θ, both converted to fp32 first; where a source gives its delta (an adapter), x = δ + θ.
  2. c_i = k_i · o_i, or +0.0 where m_i is 0.
  3. S = Σ c_i, from +0.0, in the order of the terms.
  4. with `elect`: the elected sign is + where S ≥ 0, else −; then S = Σ of the c_i of that sign (a c_i of zero has
     none), again from +0.0, and D = Σ of their w_i, from +0.0, or 1 where |D| < 1e-8.
  5. with `divide`: S = S ÷ D; without `elect`, where `divisor` is not 1: S = S ÷ divisor.
  6. merged = b · θ + λ · S: two products, one sum; without b · θ where b is 0.
  7. one rounding to the output dtype, to nearest even.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from automerge.merge.masks import MaskStream

# fp32 [stop − start]: the merged values of the flat elements start … stop − 1, for what no Plan can say
Elementwise = Callable[[int, int], Tensor]
SMALLEST_DIVISOR = 1e-8  # below this a sum of weights counts as zero


@dataclass(frozen=True)
class Drop:
    """DARE's: an element is dropped where its random lane is below `level` (0 … 65535)."""

    level: int
    stream: MaskStream


@dataclass(frozen=True)
class Band:
    """Trimming: an element is kept where low ≤ |o| ≤ high, both fp32 numbers."""

    low: float
    high: float = float("inf")


@dataclass(frozen=True)
class Ranked:
    """DELLA's: the drop level and the factor depend on the element's rank; c = factors[rank] · o takes k_i's place.

    `ranks` is uint16 [n], `levels` int32 [number of ranks], each 0 … 65535, `factors` fp32 [number of ranks].
    """

    ranks: Tensor
    levels: Tensor
    factors: Tensor
    stream: MaskStream


Mask = Drop | Band | Ranked


@dataclass(frozen=True)
class Term:
    """One source's part. `source` is its name; a source whose factor is 0 has no term."""

    source: str
    factor: float
    weight: float = 0.0
    mask: Mask | None = None


@dataclass(frozen=True)
class Plan:
    """The merge of one tensor; see the module's docstring for what each field enters."""

    operand: Literal["delta", "weights"]
    terms: tuple[Term, ...]
    elect: bool = False
    divide: bool = False  # by the sum of the weights that took part; only with elect
    divisor: float = 1.0
    base: float = 1.0  # b
    factor: float = 1.0  # λ
