"""Shares drawn from a Beta(alpha, alpha) distribution, in whole units of 1/1024.

A random word is looked up among cumulative probabilities, so that no logarithm or power of the
machine's is involved: these differ between platforms in the last bit. The probabilities are
computed by Python's `decimal`, which gives the same digits everywhere.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

UNITS = 1024
MIN_ALPHA, MAX_ALPHA = 0.001, 100.0
# Far beyond the 10 digits of a 32-bit word.
_CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN)


def draw_shares(random: NDArray[np.uint32], alpha: float) -> NDArray[np.int64]:
    """Turn words into shares that are Beta(alpha, alpha), rounded to the nearest 1/1024.

    Args:
        random: (B,) words.
        alpha: of both sides, `MIN_ALPHA` to `MAX_ALPHA`.

    Returns:
        (B,) 0 to 1024.
    """
    return np.searchsorted(beta_thresholds(float(alpha)), random.astype(np.int64), side="right")


@cache
def beta_thresholds(alpha: float) -> NDArray[np.int64]:
    """Compute the words from which a share is above 0, above 1 and so on up to above 1023.

    Threshold k is the probability of less than (k + 1/2) / 1024, times 2**32 and rounded: a share
    goes to the nearest unit. They are symmetric: k and 1023 - k add up to 2**32.

    Returns:
        (1024,) in order, read-only; the last may be 2**32, which no word reaches.
    """
    with localcontext(_CONTEXT):
        side = Decimal(alpha)
        halves = [Decimal(2 * k + 1) / (2 * UNITS) for k in range(UNITS // 2)]
        whole = 2 * _incomplete_beta(Decimal("0.5"), side)
        lower = [
            int((2**32 * _incomplete_beta(x, side) / whole).to_integral_value()) for x in halves
        ]
    thresholds = np.array([*lower, *(2**32 - each for each in reversed(lower))], np.int64)
    thresholds.flags.writeable = False
    return thresholds


def _incomplete_beta(x: Decimal, side: Decimal) -> Decimal:
    """Integrate (t (1 - t))**(side - 1) from 0 to x, at most 1/2.

    By the series x**a (1 - x)**a / a · Σ (2a)_n / (a + 1)_n x**n (DLMF 8.17.8), whose terms are all
    positive, so that no digit is lost, and fall below half of the one before in the end.
    """
    term = total = (side * (x * (1 - x)).ln()).exp() / side
    n = 0
    while term > total.scaleb(-_CONTEXT.prec):
        term *= x * (2 * side + n) / (side + 1 + n)
        total += term
        n += 1
    return total
