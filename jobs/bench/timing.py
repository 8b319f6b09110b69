"""Timing ways to do the same work: short slices, interleaved, with their noise beside them.

A machine's speed drifts, and other work comes and goes. So every way is timed once a round, ways
are compared within a round alone, and what is told is the median over the rounds and its spread.
The order within a round is drawn anew, so that no way always follows the same other one: in a fixed
order, the same work twice was 2% apart by its place alone.
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

    `verdict` is `met` where the median reaches `wanted` even when `doubt` is taken off, `missed`
    where it falls short even when the doubt is put on, and `within the noise` between the two. One
    round proves nothing: its doubt is None.
    """

    wanted: float
    doubt: float | None
    verdict: str

    @classmethod
    def judge(cls, measured: Spread, wanted: float, *, yardstick: float = 0.0) -> Bar:
        """Hold a measurement against what is wanted of it.

        Args:
            measured: its own doubt counts.
            wanted: at least this.
            yardstick: how far the same work twice lay apart; it counts where it is the larger.
        """
        if measured.rounds < 2:
            return cls(wanted, None, "within the noise")
        doubt = max(measured.doubt, yardstick)
        if measured.median - doubt >= wanted:
            return cls(wanted, doubt, "met")
        missed = measured.median + doubt < wanted
        return cls(wanted, doubt, "missed" if missed else "within the noise")


def interleave(
    ways: Mapping[str, Slice],
    rounds: int,
    *,
    prepare: Callable[[str], None] = lambda name: None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[float]]:
    """Time one slice of each way in turn, round after round: A B C, C A B, ...

    Args:
        ways: by name; the order of their turns is drawn for each round, the same in every run.
        rounds: R, how many slices of each.
        prepare: called with a way's name before each of its slices, outside of the timing.
        clock: seconds.
        progress: called after each round, with the rounds done and their number.

    Returns:
        For each way its R rates, in items a second.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for done in range(1, rounds + 1):
        for name in rng.permutation(list(ways)).tolist():
            prepare(name)
            began = clock()
            items = ways[name]()
            rates[name].append(items / (clock() - began))
        progress(done, rounds)
    return rates


def ratio(rates: Sequence[float], others: Sequence[float]) -> Spread:
    """Summarise how a way's rate compares with another's of the same round."""
    return Spread.of(np.divide(rates, others))
