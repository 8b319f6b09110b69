"""The arithmetic of reports, against plain computations and published tables."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.jobs.report.statistics import (
    MeanStd,
    Spread,
    difference,
    pays_from,
    t_probability,
    t_quantile,
)

percentages = st.floats(0, 100, allow_nan=False)


@given(st.lists(percentages, min_size=2, max_size=9))
def test_the_deviation_is_that_of_a_sample(values):
    found = MeanStd.of(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert found.std == pytest.approx(statistics.stdev(values), abs=1e-6)


def test_a_single_run_has_no_deviation():
    assert MeanStd.of([91.25]) == MeanStd(91.25, None)
    assert str(MeanStd.of([91.25])) == "91.25"


def test_mean_and_deviation_are_written_with_two_digits():
    assert str(MeanStd.of([90.0, 92.0, 94.0])) == "92.00 ± 2.00"


@pytest.mark.parametrize(
    ("degrees", "published"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (30, 2.042)],
)
def test_quantiles_are_those_of_the_published_table(degrees, published):
    assert t_quantile(degrees) == pytest.approx(published, abs=5e-4)


@given(st.integers(1, 40), st.floats(0.01, 20))
def test_the_probability_is_the_integral_of_the_density(degrees, t):
    def density(x):
        log = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
        return (
            math.exp(log)
            / math.sqrt(degrees * math.pi)
            * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
        )

    steps = 2000
    width = t / steps
    simpson = density(0) + density(t)
    simpson += sum((4 if step % 2 else 2) * density(step * width) for step in range(1, steps))
    assert t_probability(t, degrees) == pytest.approx(2 * simpson * width / 3, abs=1e-6)


def test_a_difference_has_the_pooled_interval():
    found = difference([94.0, 95.0, 96.0], [90.0, 91.0, 92.0])
    # Both deviations are 1, so the standard error is sqrt(2 / 3), with 4 degrees of freedom.
    assert found.points == pytest.approx(4)
    assert found.margin == pytest.approx(2.776 * math.sqrt(2 / 3), abs=1e-3)
    assert found.verdict == "beyond the noise"


def test_groups_of_other_sizes_are_weighed_by_their_degrees():
    found = difference([1.0, 3.0], [0.0, 0.0, 3.0, 3.0])
    pooled = (1 * 2.0 + 3 * 3.0) / 4
    assert found.margin == pytest.approx(2.776 * math.sqrt(pooled * (1 / 2 + 1 / 4)), abs=1e-3)
    assert found.verdict == "within the noise"


def test_one_seed_is_never_more_than_noise():
    found = difference([99.0], [1.0])
    assert (found.points, found.margin) == (98.0, None)
    assert found.verdict == "no spread to compare it with"


@given(st.lists(percentages, min_size=1, max_size=9))
def test_a_spread_is_median_and_ends(values):
    ordered = sorted(values)
    assert Spread.of(values) == Spread(statistics.median(values), ordered[0], ordered[-1])


@given(st.integers(0, 200), st.integers(0, 20), st.integers(1, 20))
def test_a_cache_pays_from_the_first_student_that_makes_it_cheaper(once, cached, gain):
    in_the_loop = cached + gain
    cheaper = (s for s in range(1, 500) if once + s * cached < s * in_the_loop)
    assert pays_from(once, cached, in_the_loop) == next(cheaper)


@pytest.mark.parametrize("cached", [3.0, 4.0])
def test_a_cache_never_pays_where_its_students_are_no_faster(cached):
    assert pays_from(5.0, cached, 3.0) is None
