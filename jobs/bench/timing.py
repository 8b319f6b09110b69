"""Timing ways to do the same work: short slices, interleaved, with their noise beside them.

A machine's speed drifts, and other work comes and goes. So every way is timed once a round, ways
are compared within a round alone, and what is told is the median over the rounds and its spread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Slice = Callable[[], int]
"""Does a slice of work and gives how many items it was: images, views or batches."""


@dataclass(frozen=True)
class Spread:
    """The median of a measurement over the rounds, and how far the rounds lie from it.

    `noise` is the median absolute deviation from the median; four rounds in five lie from `low` to
    `high`; `rounds` is how many there were.
    """

    median: float
    noise: float
    low: float
    high: float
    rounds: int = 1

    @classmethod
    def of(cls, measurements: ArrayLike) -> Spread:
        """Summarise (R,) measurements, R of 1 or more."""
        values = np.asarray(measurements, np.float64)
        median = float(np.median(values))
        low, high = np.quantile(values, (0.1, 0.9)).tolist()
        return cls(median, float(np.median(np.abs(values - median))), low, high, len(values))

    def __format__(self, number: str) -> str:
        """Write it with a format for its numbers.

        >>> f"{Spread(1.0, 0.02, 0.95, 1.1):.2f}"
        '1.00 ± 0.02 (0.95 to 1.10)'
        """
        median, noise, low, high = (
            format(value, number) for value in (self.median, self.noise, self.low, self.high)
        )
        return f"{median} ± {noise} ({low} to {high})"

    @property
    def doubt(self) -> float:
        """Two standard errors of the median, were the rounds drawn from a normal distribution.

        Its deviation is 1.4826 median absolute deviations, a median's error sqrt(pi / 2) that of a
        mean.
        """
        return 2 * math.sqrt(math.pi / 2) * 1.4826 * self.noise / math.sqrt(self.rounds)


@dataclass(frozen=True)
class Bar:
    """What a measurement must reach, and whether it did.

    `verdict` is `met` where the median reaches `wanted` even when its doubt is taken off, `missed`
    where it falls short even when the doubt is put on, and `within the noise` between the two.
    """

    wanted: float
    verdict: str

    @classmethod
    def judge(cls, measured: Spread, wanted: float) -> Bar:
        """Hold a measurement against what is wanted of it."""
        if measured.median - measured.doubt >= wanted:
            return cls(wanted, "met")
        missed = measured.median + measured.doubt < wanted
        return cls(wanted, "missed" if missed else "within the noise")


def interleave(
    ways: Mapping[str, Slice],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[float]]:
    """Time one slice of each way in turn, round after round: A B C, A B C, ...

    Args:
        ways: by name, in the order of their turns.
        rounds: R, how many slices of each.
        clock: seconds.
        progress: called after each round, with the rounds done and their number.

    Returns:
        For each way its R rates, in items a second.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for done in range(1, rounds + 1):
        for name, work in ways.items():
            began = clock()
            items = work()
            rates[name].append(items / (clock() - began))
        progress(done, rounds)
    return rates


def ratio(rates: Sequence[float], others: Sequence[float]) -> Spread:
    """Summarise how a way's rate compares with another's of the same round."""
    return Spread.of(np.divide(rates, others))
