"""Shares that are Beta(alpha, alpha), in whole units, the same on every machine."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import betainc

from logitbank.pipeline.views.augmentations.beta_table import (
    MAX_ALPHA,
    MIN_ALPHA,
    UNITS,
    beta_thresholds,
    draw_shares,
)
from logitbank.pipeline.views.draws import Stream, words

ALPHAS = pytest.mark.parametrize("alpha", [MIN_ALPHA, 0.1, 0.2, 0.5, 1.0, 2.0, 7.5, MAX_ALPHA])
WORDS = st.integers(0, 2**32 - 1)
MIDDLES = (np.arange(UNITS) + 0.5) / UNITS


@ALPHAS
def test_a_threshold_is_the_probability_of_less_than_the_middle_between_two_shares(alpha):
    expected = np.rint(2**32 * betainc(alpha, alpha, MIDDLES))
    assert np.array_equal(beta_thresholds(alpha), expected)


def test_known_probabilities():
    assert beta_thresholds(1.0).tolist() == [2**21 + k * 2**22 for k in range(UNITS)]
    # Beta(1/2, 1/2) is the arcsine law: an exact value by another formula.
    arcsine = np.rint(2**33 / np.pi * np.arcsin(np.sqrt(MIDDLES)))
    assert np.array_equal(beta_thresholds(0.5), arcsine)


@ALPHAS
def test_thresholds_are_symmetric_and_in_order(alpha):
    found = beta_thresholds(alpha)
    assert np.array_equal(found + found[::-1], np.full(UNITS, 2**32))
    assert (np.diff(found) >= 0).all()


@ALPHAS
def test_shares_have_the_mean_and_variance_of_the_distribution(alpha):
    edges = [0, *beta_thresholds(alpha).tolist(), 2**32]
    chances = [Fraction(last - first, 2**32) for first, last in itertools.pairwise(edges)]
    shares = [Fraction(share, UNITS) for share in range(UNITS + 1)]
    assert sum(map(lambda chance, share: chance * share, chances, shares)) == Fraction(1, 2)
    variance = sum(
        chance * (share - Fraction(1, 2)) ** 2
        for chance, share in zip(chances, shares, strict=True)
    )
    assert float(variance) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-3)


@given(st.lists(WORDS, min_size=1, max_size=20), st.sampled_from([0.2, 1.0, 3.0]))
@example([2**21 - 1, 2**21, 2**21 + 2**22], 1.0)  # Thresholds of the even distribution.
def test_a_share_counts_the_thresholds_that_its_word_reaches(drawn, alpha):
    random = np.array(drawn, np.uint32)
    found = draw_shares(random, alpha)
    thresholds = beta_thresholds(alpha).tolist()
    assert found.tolist() == [sum(word >= each for each in thresholds) for word in drawn]
    assert np.array_equal(draw_shares(~random, alpha), UNITS - found)


def test_shares_of_many_words_follow_the_distribution():
    random = words(3, np.arange(40_000), 0, Stream.MIXUP, 1)[:, 0]
    for alpha in (0.2, 1.0, 4.0):
        shares = draw_shares(random, alpha) / UNITS
        below = [(shares < limit).mean() for limit in MIDDLES[::64]]
        assert np.abs(below - betainc(alpha, alpha, MIDDLES[::64])).max() < 0.01


def test_the_table_is_kept_and_cant_be_changed():
    assert beta_thresholds(0.3) is beta_thresholds(0.3)
    with pytest.raises(ValueError, match="read-only"):
        beta_thresholds(0.3)[0] = 1
