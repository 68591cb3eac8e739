"""exp and log of arrays with the same bits on every machine: only + − × ÷ and exact scaling by powers of two.

The platform's own differ in the last bit between libraries and vector units. Each is within a few units of the last
place of float64. It knows nothing else.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # its last bits are 0: times a small integer it is exact
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
EXP_TERMS = 14
LOG_TERMS = 13


def exp(x: Array) -> Array:
    """e^x for −10000 ≤ x ≤ 700: 2^k · e^r with |r| ≤ ln 2 ÷ 2, and e^r by its series."""
    k = np.rint(x * LOG2_E)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    series = np.ones_like(r)
    for n in range(EXP_TERMS, 0, -1):
        series = series * (r / n) + 1.0
    return np.ldexp(series, k.astype(np.int32))


def log(x: Array) -> Array:
    """ln x for normal x > 0: e · ln 2 + ln m with √½ ≤ m < √2, and ln m = 2 artanh((m − 1) ÷ (m + 1)) by its series."""
    m, e = np.frexp(x)
    small = m < SQRT_HALF
    m, e = np.where(small, m * 2.0, m), np.where(small, e - 1, e)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = np.zeros_like(s)
    for n in range(LOG_TERMS, 0, -1):
        series = (series + 1.0 / (2 * n + 1)) * z
    return e * LN2_HIGH + (e * LN2_LOW + 2.0 * (s + s * series))
