"""A 128-bit positional checksum of tensors that can be added up in pieces, in any order, from any process.

It knows nothing of models or files. It finds accidents (a changed, swapped, missing or moved element), and is no
defence against someone who constructs a collision.

For a tensor of n elements of 16 or 32 bits, with bits_j the unsigned bits of flat element j,
    t_j = lowbias32(bits_j ^ low32(j · 0x9E3779B1)), read as a signed 32-bit integer
    A = Σ t_j mod 2^64,   B = Σ t_j · (2j + 1) mod 2^64
    tensor checksum = sha256("{name}\\0{dtype}\\0{shape}\\0{A}\\0{B}"), shape as "2,3", A and B as 16 hex digits
    model checksum  = sha256 of the lines "{name}\\0{tensor checksum}\\n", sorted by name
each cut to its first 16 bytes, 32 hex digits. Any change of one or two elements changes A or B for certain: t_j is a
bijection of the bits, and two differences that cancel in A are weighted differently in B.
"""

import hashlib

import torch
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.hash32 import counter, mix_, signed

GOLDEN = 0x9E3779B1
U64 = (1 << 64) - 1
PIECE = (1 << 15) - 1  # elements hashed at once; torch does not split so few among threads, whose barriers cost more

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


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

    def add(self, piece: Tensor, offset: int) -> None:
        """Adds a contiguous run of elements, of any shape, whose first has flat index `offset`."""
        flat = piece.reshape(-1)
        for start in range(0, flat.numel(), PIECE):
            self._add_run(flat[start : start + PIECE], offset + start)

    def add_rows(self, rows: Tensor, offset: int, stride: int) -> None:
        """Adds a block [rows, columns] cut from a wider matrix: row r begins at flat index offset + r · stride."""
        for number, row in enumerate(rows):
            self.add(row, offset + number * stride)

    def merge(self, other: "TensorSum") -> None:
        """Adds what another sum of the same tensor (another shard's, another process's) has gathered."""
        self.a = (self.a + other.a) & U64
        self.b = (self.b + other.b) & U64

    def hexdigest(self) -> str:
        """32 hex digits."""
        shape = ",".join(str(size) for size in self.shape)
        text = f"{self.name}\0{DTYPES[self.dtype]}\0{shape}\0{self.a:016x}\0{self.b:016x}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _add_run(self, flat: Tensor, offset: int) -> None:
        if flat.dtype != self.dtype:
            raise MergeError(f"expected {self.dtype}, got {flat.dtype}", where=self.name)
        index = counter(0, flat.numel(), flat.device)
        words = (index * signed(GOLDEN)).add_(signed(offset * GOLDEN))
        words.bitwise_xor_(_bits(flat))
        terms = mix_(words).to(torch.int64)
        total = int(terms.sum())
        local = int(terms.mul_(index).sum())  # Σ t·l for the local index l; j = offset + l
        self.a = (self.a + total) & U64
        self.b = (self.b + 2 * local + (2 * offset + 1) * total) & U64


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


def _bits(flat: Tensor) -> Tensor:
    """int32 with the elements' unsigned bits."""
    if flat.element_size() == 4:
        return flat.view(torch.int32)
    return flat.view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF)
