"""Statistics of a report: means, spreads, differences against noise, when a cache pays off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation (n - 1); the deviation of one value is None."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanStd:
        """Summarise one or more values.

        >>> MeanStd.of([90.0, 92.0, 94.0])
        MeanStd(mean=92.0, std=2.0)
        """
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean, None)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / (len(values) - 1)))

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


@dataclass(frozen=True)
class Difference:
    """A difference of means and half the width of its 95% interval, None if there is none."""

    points: float
    margin: float | None

    @property
    def verdict(self) -> str:
        """Whether the interval excludes zero, in words."""
        if self.margin is None:
            return "no spread to compare it with"
        return "beyond the noise" if abs(self.points) > self.margin else "within the noise"


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two groups of runs by Student's two-sample t interval with pooled variance.

    The difference has no interval if a group is a single run, which has no spread.
    """
    one, other = MeanStd.of(first), MeanStd.of(second)
    points = one.mean - other.mean
    if one.std is None or other.std is None:
        return Difference(points, None)
    degrees = len(first) + len(second) - 2
    pooled = ((len(first) - 1) * one.std**2 + (len(second) - 1) * other.std**2) / degrees
    error = math.sqrt(pooled * (1 / len(first) + 1 / len(second)))
    return Difference(points, t_quantile(degrees) * error)


def paired_difference(differences: Sequence[float]) -> Difference:
    """Summarise differences of pairs that are equal but for one thing, by Student's t interval.

    The difference of a single pair, which has no spread, has no interval.

    >>> found = paired_difference([1.0, 2.0, 3.0])
    >>> found.points, round(found.margin, 2), found.verdict
    (2.0, 2.48, 'within the noise')
    """
    found = MeanStd.of(differences)
    if found.std is None:
        return Difference(found.mean, None)
    pairs = len(differences)
    return Difference(found.mean, t_quantile(pairs - 1) * found.std / math.sqrt(pairs))


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return the t for which a Student variable lies within ± t with a probability, by bisection.

    >>> round(t_quantile(4), 3), round(t_quantile(10), 3)
    (2.776, 2.228)
    """
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, degrees) < confidence else (low, middle)
    return high


def t_probability(t: float, degrees: int) -> float:
    """Return the probability that a Student variable lies within ± t.

    By the finite series of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd
    degrees of freedom) and 26.7.4 (even ones).
    """
    theta = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(theta)
    first = 3 if degrees % 2 else 2
    term = total = cosine if degrees % 2 else 1.0
    for power in range(first, degrees - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    if degrees % 2 == 0:
        return math.sin(theta) * total
    series = math.sin(theta) * total if degrees > 1 else 0.0
    return 2 / math.pi * (theta + series)


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one or more measurements.

        >>> Spread.of([1.0, 2.0, 4.0])
        Spread(median=2.0, low=1.0, high=4.0)
        """
        return cls(median(values), min(values), max(values))


def pays_from(once: float, each_cached: float, each_in_the_loop: float) -> int | None:
    """Return the smallest number of students for which a cache costs less than the loop.

    That is the smallest s with `once + s * each_cached < s * each_in_the_loop`; None if a cached
    student costs no less than one with the teacher in the loop.

    >>> pays_from(12, 0, 12), pays_from(13, 0, 12), pays_from(5, 3, 2)
    (2, 2, None)
    """
    gain = each_in_the_loop - each_cached
    return math.floor(once / gain) + 1 if gain > 0 else None
