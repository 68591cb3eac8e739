"""Which elements DARE drops: a counter-based mask, a pure function of seed, source, tensor and element index.

Source: L. Yu et al., "Language Models are Super Mario" (arXiv:2311.03099), for drop-and-rescale; the generator is ours.
No global random state is read, so no source's mask depends on another's, on the order of work or on the device.

Element i belongs to pair j = i >> 1 of block b = i >> 33. With two 32-bit keys (k0, k1), the first eight bytes of
sha256("{seed}\\0{source digest}\\0{tensor}\\0{b}"), little-endian,
    h    = lowbias32(low32(j) ^ k0), with k1 xored in behind the first multiplication
    lane = h & 0xFFFF for even i, h >> 16 for odd i
    i is dropped  ⇔  lane < T,   T = min(round(p · 65536), 65535)
One key alone would give permutations of one cycle; the second, in mid-hash, makes the streams unrelated. A larger p
drops a superset. The drop rate in force is T / 65536, and rescaling uses that, so it stays unbiased.
"""

import hashlib
import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.merge.hash32 import counter, mix_, signed

LANES = 1 << 16
BLOCK = 1 << 33  # elements; beyond it the pair number would not fit into 32 bits


def drop_level(p: float) -> int:
    """T, the number of the 65,536 lane values that are dropped at drop rate p in [0, 1)."""
    return min(round(p * LANES), LANES - 1)


def keep_rate(level: int) -> float:
    """1 − T/65536, exactly."""
    return 1.0 - level / LANES


@dataclass(frozen=True)
class MaskStream:
    """The uniform 16-bit numbers of one tensor of one source."""

    seed: int
    source: str  # the source's content digest
    tensor: str

    def keys(self, block: int) -> tuple[int, int]:
        """The two 32-bit keys (k0, k1) of one block of 2^33 elements."""
        text = f"{self.seed}\0{self.source}\0{self.tensor}\0{block}"
        k0, k1 = struct.unpack("<II", hashlib.sha256(text.encode()).digest()[:8])
        return k0, k1

    def dropped(self, level: int, start: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        """bool [length]: True where elements start … start + length − 1 are dropped, at T = `level` (0 … 65535)."""
        # unsigned comparison on int16: flip the top bit of both sides
        return self.lanes(start, length, device) < level - LANES // 2

    def lanes(self, start: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        """int16 [length]: each element's lane less 32768, so that signed order is the lanes' order."""
        parts = []
        stop = start + length
        while start < stop:
            end = min(stop, (start // BLOCK + 1) * BLOCK)
            parts.append(self._lanes_in_block(start, end, device))
            start = end
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int16, device=device)

    def _lanes_in_block(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        k0, k1 = self.keys(start // BLOCK)
        pairs = counter(start >> 1, ((stop + 1) >> 1) - (start >> 1), device)
        words = mix_(pairs.bitwise_xor_(signed(k0)), k1).bitwise_xor_(signed(0x80008000))
        halves = words.view(torch.int16)  # little-endian, as every platform torch supports: low half first
        return halves[start & 1 : (start & 1) + stop - start]
