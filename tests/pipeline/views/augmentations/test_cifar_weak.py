"""`cifar-weak` holds every outcome once, in an order that is uniform and independent."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from logitbank.pipeline.views import CifarWeak
from logitbank.pipeline.views.augmentations.cifar_weak import PermutationTable
from logitbank.stores.errors import DatasetError, PixelError, UsageError
from tests.reference import views as reference

SEEDS = st.integers(0, 2**64 - 1)
AUGMENTATIONS = st.builds(
    CifarWeak, size=st.integers(1, 9), pad=st.integers(0, 5), flip=st.booleans()
)
STANDARD = CifarWeak()


def drawn(augmentation: CifarWeak, seed: int, samples: list[int], view: int) -> np.ndarray:
    return augmentation.draw(seed, samples, view, [[augmentation.size] * 2] * len(samples))


def all_draws(augmentation: CifarWeak, seed: int, sample: int) -> list[tuple[int, ...]]:
    views = range(augmentation.count)
    return [tuple(drawn(augmentation, seed, [sample], view)[0].tolist()) for view in views]


@pytest.mark.parametrize(
    ("augmentation", "count"),
    [
        (CifarWeak(), 162),
        (CifarWeak(flip=False), 81),
        (CifarWeak(pad=2), 50),
        (CifarWeak(pad=0), 2),
    ],
)
def test_there_are_as_many_views_as_outcomes(augmentation, count):
    assert augmentation.count == count
    draws = all_draws(augmentation, seed=3, sample=11)
    assert len(set(draws)) == count
    ends = np.array(draws)
    assert ends.min(axis=0).tolist() == [0, 0, 0]
    assert ends.max(axis=0).tolist() == [2 * augmentation.pad] * 2 + [int(augmentation.flip)]


@given(AUGMENTATIONS, SEEDS, st.integers(0, 2**32 - 1), st.data())
def test_a_draw_is_the_one_of_the_definition(augmentation, seed, sample, data):
    view = data.draw(st.integers(0, augmentation.count - 1))
    found = drawn(augmentation, seed, [sample], view)
    assert found.dtype == np.int16
    pad, flip = augmentation.pad, augmentation.flip
    assert found[0].tolist() == reference.cifar_weak_params(seed, sample, view, pad, flip)


@given(AUGMENTATIONS, st.data())
def test_a_view_is_rendered_from_its_parameters_alone(augmentation, data):
    pad, size = augmentation.pad, augmentation.size
    offset = st.integers(0, 2 * pad)
    flip = st.integers(0, int(augmentation.flip))
    params = np.array(data.draw(st.tuples(offset, offset, flip)), np.int16)
    image = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    expected = reference.render(augmentation.name, augmentation.parameters, image, params)
    assert np.array_equal(augmentation.render(image, params), expected)


def test_offsets_and_flips_of_a_view_are_uniform():
    params = drawn(STANDARD, 0, list(range(20_000)), 5)
    assert stats.chisquare(np.bincount(params[:, 0], minlength=9)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(params[:, 1], minlength=9)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(params[:, 2], minlength=2)).pvalue > 1e-3
    outcomes = params @ np.array([9, 1, 81])
    assert stats.chisquare(np.bincount(outcomes, minlength=162)).pvalue > 1e-3


def test_samples_seeds_views_and_augmentations_are_independent():
    """Dependent draws would agree in more or fewer than one outcome in 162."""
    samples = list(range(8000))
    columns = {
        "as it is": drawn(STANDARD, 1, samples, 0),
        "next sample": drawn(STANDARD, 1, [sample + 1 for sample in samples], 0),
        "next seed": drawn(STANDARD, 2, samples, 0),
        "high half of the seed": drawn(STANDARD, 1 + 2**32, samples, 0),
        "next view": drawn(STANDARD, 1, samples, 1),
    }
    outcomes = {name: params @ np.array([9, 1, 81]) for name, params in columns.items()}
    for (one, a), (other, b) in combinations(outcomes.items(), 2):
        agreements = int((a == b).sum())
        # Two views of one sample never agree: they are drawn without replacement.
        if {one, other} == {"as it is", "next view"}:
            assert agreements == 0
        else:
            assert stats.binomtest(agreements, len(samples), 1 / 162).pvalue > 1e-3, (one, other)


@given(AUGMENTATIONS, SEEDS, st.sampled_from([0, 1, 40, 100_000]), st.data())
def test_the_kept_table_gives_the_same_draws_however_small_it_is(
    augmentation, seed, table_bytes, data
):
    table = PermutationTable(augmentation, seed, samples=12, table_bytes=table_bytes)
    samples = data.draw(st.lists(st.integers(0, 11), min_size=1))
    for view in data.draw(st.lists(st.integers(0, augmentation.count - 1), max_size=3)):
        expected = drawn(augmentation, seed, samples, view)
        assert np.array_equal(table.draw(np.array(samples), view), expected)


def test_the_table_of_the_standard_views_is_one_byte_each():
    assert STANDARD.outcome_dtype == np.uint8
    assert CifarWeak(pad=127).outcome_dtype == np.uint32


def test_a_view_beyond_the_last_is_refused():
    with pytest.raises(UsageError, match="163 views are more than cifar-weak .* has: 162"):
        drawn(STANDARD, 0, [0], 162)
    with pytest.raises(UsageError, match="163 views are more"):
        PermutationTable(STANDARD, 0, samples=1).draw(np.array([0]), 162)


def test_images_of_another_size_are_refused():
    with pytest.raises(DatasetError, match="size 32 can't take an image of 28 x 32"):
        STANDARD.draw(0, [0], 0, [[28, 32]])
    with pytest.raises(DatasetError, match="28 x 28"):
        STANDARD.render(np.zeros((28, 28, 3), np.uint8), np.array([0, 0, 0]))


@pytest.mark.parametrize("params", [(-1, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 2)])
def test_parameters_that_cant_have_been_drawn_are_refused(params):
    with pytest.raises(PixelError, match=r"outside what cifar-weak draws: 0 to \[8, 8, 1\]"):
        STANDARD.render(np.zeros((32, 32, 3), np.uint8), np.array(params))


@pytest.mark.parametrize("wrong", [{"pad": -1}, {"pad": 128}, {"size": 0}, {"flip": 1}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} of cifar-weak is"):
        CifarWeak(**wrong)
