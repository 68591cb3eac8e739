"""A 128-bit positional checksum of tensors that can be added up in pieces, in any order, from any process.

It knows nothing of models or files. It finds accidents (a changed, swapped, missing or moved element), and is no
defence against someone who constructs a collision.

A tensor's bytes are read as little-endian 32-bit words: one fp32 element, or two neighbouring 16-bit elements, the
lower index in the low half (a last one alone has a high half of 0). With word_j the j-th word of the flat tensor,
    t_j = lowbias32(word_j ^ low32(j · 0x9E3779B1)), read as a signed 32-bit integer
    A = Σ t_j mod 2^64,   B = Σ t_j · (2j + 1) mod 2^64
    tensor checksum = sha256("{name}\\0{dtype}\\0{shape}\\0{A}\\0{B}"), shape as "2,3", A and B as 16 hex digits
    model checksum  = sha256 of the lines "{name}\\0{tensor checksum}\\n", sorted by name
each cut to its first 16 bytes, 32 hex digits. Any change in one or two words changes A or B for certain: t_j is a
bijection of the word, and two differences that cancel in A are weighted differently in B.
"""

import hashlib
from typing import Any

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.hash32 import counter, mix_, signed

GOLDEN = 0x9E3779B1
U64 = (1 << 64) - 1
PIECE = (1 << 15) - 2  # elements hashed at once, an even number; torch does not share so few out among threads

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def cuts_pair(start: Any, end: Any, elements: Any) -> Any:
    """Whether the run start … end − 1 of so many 16-bit elements begins or ends inside a word. Numbers, or arrays."""
    return (start % 2 == 1) | ((end % 2 == 1) & (end != elements))


def pair_cut(tensor: str, start: int, end: int) -> MergeError:
    """The error of a run that cuts a pair."""
    message = f"elements {start} to {end} begin or end inside a pair of 16-bit elements"
    return MergeError(message, where=tensor, hint="Cut the tensor at even elements.")


class TensorSum:
    """Adds up one tensor's checksum. `add` each element exactly once; nothing checks that."""

    def __init__(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if dtype not in DTYPES:
            raise MergeError(f"expected one of {', '.join(DTYPES.values())}, got {dtype}", where=name)
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.a = 0
        self.b = 0
        self._elements = torch.Size(shape).numel()

    def add(self, piece: Tensor, offset: int) -> None:
        """Adds a contiguous run of elements, of any shape, whose first has flat index `offset`.

        Raises MergeError where a run of 16-bit elements begins or ends inside a pair (at the tensor's end it may).
        """
        flat = piece.reshape(-1)
        if flat.dtype != self.dtype:
            raise MergeError(f"expected {self.dtype}, got {flat.dtype}", where=self.name)
        end = offset + flat.numel()
        if self.dtype.itemsize == 2 and cuts_pair(offset, end, self._elements):
            raise pair_cut(self.name, offset, end)
        for start in range(0, flat.numel(), PIECE):
            self._add_run(flat[start : start + PIECE], offset + start)

    def hexdigest(self) -> str:
        """32 hex digits."""
        shape = ",".join(str(size) for size in self.shape)
        text = f"{self.name}\0{DTYPES[self.dtype]}\0{shape}\0{self.a:016x}\0{self.b:016x}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def add_sums(self, a: int, b: int) -> None:
        """Adds Σ t_j and Σ t_j · (2j + 1) that a kernel or another process has gathered, of words no one else adds."""
        self.a = (self.a + a) & U64
        self.b = (self.b + b) & U64

    def _add_run(self, flat: Tensor, offset: int) -> None:
        words = _words(flat)
        first = offset * self.dtype.itemsize // 4
        index = counter(0, words.numel(), flat.device)
        keyed = (index * signed(GOLDEN)).add_(signed(first * GOLDEN)).bitwise_xor_(words)
        terms = mix_(keyed).to(torch.int64)
        total = int(terms.sum())
        local = int(terms.mul_(index).sum())  # Σ t·l for the local index l; j = first + l
        self.add_sums(total, 2 * local + (2 * first + 1) * total)


class ModelSum:
    """Gathers tensor checksums into the model's, in any order."""

    def __init__(self) -> None:
        self._sums: dict[str, str] = {}

    def add(self, tensor: TensorSum) -> None:
        """Takes a finished tensor. Raises MergeError for a name that was there before."""
        if tensor.name in self._sums:
            raise MergeError("this tensor came twice", where=tensor.name)
        self._sums[tensor.name] = tensor.hexdigest()

    @property
    def tensors(self) -> dict[str, str]:
        """Tensor name → checksum, in the order they came."""
        return dict(self._sums)

    def hexdigest(self) -> str:
        """32 hex digits."""
        lines = "".join(f"{name}\0{self._sums[name]}\n" for name in sorted(self._sums))
        return hashlib.sha256(lines.encode()).hexdigest()[:32]


def tensor_sum(name: str, tensor: Tensor) -> TensorSum:
    """The finished sum of a whole tensor."""
    done = TensorSum(name, tensor.dtype, tuple(tensor.shape))
    done.add(tensor, 0)
    return done


def _words(flat: Tensor) -> Tensor:
    """int32: the bits of the elements, two 16-bit ones a word."""
    if flat.element_size() == 2 and flat.numel() % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    if flat.storage_offset() * flat.element_size() % 4:
        flat = flat.clone()
    return flat.view(torch.int32)
