"""The same maths a second time: plain Python for the integers, numpy for fp32. Slow, short, and shares no code."""

import hashlib
from collections.abc import Sequence

import numpy as np

F = np.float32


def mix(x: int, key: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= key
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def lane(seed: int, source: str, tensor: str, i: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{source}\0{tensor}\0{i >> 33}".encode()).digest()
    k0, k1 = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
    word = mix((i >> 1 & 0xFFFFFFFF) ^ k0, k1)
    return word >> 16 if i & 1 else word & 0xFFFF


def pairs(bits: Sequence[int]) -> list[int]:
    """16-bit elements as 32-bit words."""
    padded = [*bits, 0]
    return [padded[i] | padded[i + 1] << 16 for i in range(0, len(bits), 2)]


def sums(bits: Sequence[int], first: int = 0) -> tuple[int, int]:
    a = b = 0
    for j, value in enumerate(bits, first):
        t = mix(value ^ (j * 0x9E3779B1 & 0xFFFFFFFF), 0)
        t -= (t >> 31) << 32
        a += t
        b += t * (2 * j + 1)
    return a % 2**64, b % 2**64


def linear(xs: list[np.ndarray], ws: list[float], normalize: bool) -> np.ndarray:
    out = np.zeros_like(xs[0])
    for x, w in zip(xs, ws, strict=True):
        out = out + F(w) * x
    return out / added(ws) if normalize else out


def added(ws: list[float]) -> np.float32:
    total = F(0)
    for w in ws:
        total += F(w)
    return total


def trimmed(delta: np.ndarray, density: float) -> np.ndarray:
    """δ̂, by sorting."""
    k = int(density * delta.size)
    if k == 0:
        return np.zeros_like(delta)
    smallest = np.sort(np.abs(delta), axis=None)[delta.size - k]
    return np.where(np.abs(delta) >= smallest, delta, F(0))


def agreed(contributions: list[np.ndarray], ws: list[float], normalize: bool) -> np.ndarray:
    vote = np.zeros_like(contributions[0])
    for c in contributions:
        vote = vote + c
    sign = np.where(vote >= 0, 1, -1)
    out, divisor = np.zeros_like(vote), np.zeros_like(vote)
    for c, w in zip(contributions, ws, strict=True):
        agrees = np.sign(c) == sign
        out = out + np.where(agrees, c, F(0))
        divisor = divisor + np.where(agrees, F(w), F(0))
    if not normalize:
        return out
    return out / np.where(np.abs(divisor) < F(1e-8), F(1), divisor)


def summed(base: np.ndarray, contributions: list[np.ndarray], factor: float) -> np.ndarray:
    out = np.zeros_like(base)
    for c in contributions:
        out = out + c
    return base + F(factor) * out
