"""A 32-bit integer hash on int32 tensors, shared by the masks and the checksum. It knows nothing of either.

lowbias32 is Chris Wellons' (the "hash prospector", https://nullprogram.com/blog/2018/07/31/): three xor-shifts and two
multiplications, a bijection of 32-bit words with a bias near the theoretical floor. int32 arithmetic wraps, so the
bit patterns are those of uint32.
"""

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
FIRST_FACTOR = 0x7FEB352D
SECOND_FACTOR = 0x846CA68B


def signed(word: int) -> int:
    """The int32 whose bits are the low 32 of `word`."""
    word &= WORD
    return word - (1 << 32) if word >> 31 else word


def mix_(words: Tensor, key: int = 0) -> Tensor:
    """lowbias32 of an int32 tensor, in place; `key` (32 bits) is xored in behind the first multiplication."""
    _shift_xor_(words, 16)
    words.mul_(signed(FIRST_FACTOR))
    if key:
        words.bitwise_xor_(signed(key))
    _shift_xor_(words, 15)
    words.mul_(signed(SECOND_FACTOR))
    return _shift_xor_(words, 16)


def counter(start: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """int32 [length]: the low 32 bits of start, start + 1, …"""
    return torch.arange(length, dtype=torch.int32, device=device).add_(signed(start))


def _shift_xor_(words: Tensor, bits: int) -> Tensor:
    # torch shifts int32 arithmetically; the mask takes away the copies of the sign bit
    return words.bitwise_xor_((words >> bits).bitwise_and_((1 << (32 - bits)) - 1))
