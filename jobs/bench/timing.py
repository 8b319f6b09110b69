"""Timing different ways to do the same work: short, interleaved slices, reported with their noise.

A machine's speed drifts, and other work comes and goes. So every way is timed once per round, ways
are compared only within a round, and the median over the rounds is reported with its spread. The
order within a round is random, so that no way always follows the same other one: in a fixed order,
two slices of the same work differed by 2% because of their position.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Slice = Callable[[], int]
"""Does a slice of work and returns its number of items: images, views or batches."""


@dataclass(frozen=True)
class Spread:
    """The median of a measurement over the rounds, and the spread of the rounds around it.

    `noise` is the median absolute deviation; four rounds in five lie between `low` and `high`;
    `rounds` is the number of rounds.
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
        """Format each of its numbers.

        >>> f"{Spread(1.0, 0.02, 0.95, 1.1):.2f}"
        '1.00 ± 0.02 (0.95 to 1.10)'
        """
        median, noise, low, high = (
            format(value, number) for value in (self.median, self.noise, self.low, self.high)
        )
        return f"{median} ± {noise} ({low} to {high})"

    @property
    def doubt(self) -> float:
        """Two standard errors of the median, assuming normally distributed rounds.

        The standard deviation is then 1.4826 median absolute deviations, and the error of a median
        is sqrt(pi / 2) times that of a mean.
        """
        return 2 * math.sqrt(math.pi / 2) * 1.4826 * self.noise / math.sqrt(self.rounds)


@dataclass(frozen=True)
class Bar:
    """What a measurement must reach, and whether it did.

    `verdict` is `met` if the median less `doubt` reaches `wanted`, `missed` if the median plus
    `doubt` falls short of it, and `within the noise` otherwise. One round proves nothing, and has
    no `doubt`.
    """

    wanted: float
    doubt: float | None
    verdict: str

    @classmethod
    def judge(cls, measured: Spread, wanted: float, *, yardstick: float = 0.0) -> Bar:
        """Compare a measurement with what is wanted of it.

        Args:
            measured: the measurement, with its own doubt.
            wanted: the least that it should reach.
            yardstick: the difference between two measurements of the same work, which replaces a
                smaller doubt.
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
        ways: by name; their order is random in each round, and the same in every run.
        rounds: R, the number of slices of each way.
        prepare: called with a way's name before each of its slices, outside of the timing.
        clock: returns the time in seconds.
        progress: called after each round, with the number of rounds done and in all.

    Returns:
        The R rates of each way, in items per second.
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
    """Summarise the ratios of one way's rates to another's, round by round."""
    return Spread.of(np.divide(rates, others))
