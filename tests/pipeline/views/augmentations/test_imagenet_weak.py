"""`imagenet-weak` is torchvision's random resized crop, on addressed draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tvf

from logitbank.pipeline.views import CifarWeak, ImagenetWeak
from logitbank.pipeline.views.augmentation import INTERPOLATIONS
from logitbank.stores.errors import PixelError, UsageError
from tests.reference import views as reference

SEEDS = st.integers(0, 2**64 - 1)
# Sides of usual images, and of images so long that no attempt fits.
SIDES = st.one_of(st.integers(1, 700), st.sampled_from([1, 2, 3, 5000]))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@given(SEEDS, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), SIDES, SIDES, st.booleans())
def test_a_draw_is_the_one_of_the_definition(seed, sample, view, height, width, flip):
    found = ImagenetWeak(flip=flip).draw(seed, [sample], view, [[height, width]])
    assert found.dtype == np.int32
    expected = reference.imagenet_weak_params(seed, sample, view, height, width, flip)
    assert found[0].tolist() == expected


@given(SEEDS, st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5))
def test_a_draw_does_not_depend_on_its_neighbours_and_its_box_is_in_the_image(seed, sizes):
    augmentation = ImagenetWeak()
    together = augmentation.draw(seed, range(len(sizes)), 3, sizes)
    for sample, size in enumerate(sizes):
        assert np.array_equal(together[sample], augmentation.draw(seed, [sample], 3, [size])[0])
        top, left, height, width, _ = together[sample]
        assert height >= 1
        assert width >= 1
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width


def test_an_image_too_long_for_any_attempt_gives_its_central_box():
    found = ImagenetWeak(flip=False).draw(0, [0, 1], 0, [[1000, 10], [10, 1000]])
    # 10 / (3/4) = 13.3 high, and 10 * (4/3) = 13.3 wide.
    assert found[:, :4].tolist() == [[493, 0, 13, 10], [0, 493, 10, 13]]


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (64, 64), (100, 290)])
def test_boxes_are_distributed_as_torchvisions(size):
    draws = 3000
    ours = ImagenetWeak().draw(7, range(draws), 0, [size] * draws)[:, :4]
    torch.manual_seed(0)
    image = torch.empty((3, *size), device="meta")
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(draws)]
    )
    for mine, other in zip(statistics_of(ours), statistics_of(theirs), strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


def statistics_of(boxes: np.ndarray) -> list[np.ndarray]:
    top, left, height, width = boxes.T
    return [top, left, height, width, height * width, width / height]


def test_flips_are_even_and_independent_of_boxes_views_samples_and_seeds():
    augmentation, samples = ImagenetWeak(), np.arange(8000)
    sizes = [[375, 500]] * len(samples)
    here = augmentation.draw(1, samples, 0, sizes)
    assert stats.binomtest(int(here[:, 4].sum()), len(samples), 0.5).pvalue > 1e-3
    others = [
        augmentation.draw(1, samples + 1, 0, sizes),
        augmentation.draw(2, samples, 0, sizes),
        augmentation.draw(1, samples, 1, sizes),
    ]
    for other in others:
        assert stats.binomtest(int((here[:, 4] == other[:, 4]).sum()), 8000, 0.5).pvalue > 1e-3
        assert abs(stats.spearmanr(here[:, 2], other[:, 2]).statistic) < 0.04
        assert abs(stats.spearmanr(here[:, 0], other[:, 0]).statistic) < 0.04
    assert abs(stats.spearmanr(here[:, 2], here[:, 4]).statistic) < 0.04
    cifar_flips = CifarWeak().draw(1, samples, 0, [[32, 32]] * len(samples))[:, 2]
    assert stats.binomtest(int((here[:, 4] == cifar_flips).sum()), 8000, 0.5).pvalue > 1e-3


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("flip", [0, 1])
def test_a_view_is_torchvisions_resized_crop_of_the_same_box(interpolation, flip):
    image = photo(97, 131)
    augmentation = ImagenetWeak(size=40, interpolation=interpolation)
    for box in [(0, 0, 97, 131), (3, 5, 80, 90), (50, 60, 7, 9), (96, 130, 1, 1)]:
        view = tvf.resized_crop(
            Image.fromarray(image), *box, [40, 40], InterpolationMode(interpolation)
        )
        expected = np.asarray(tvf.hflip(view) if flip else view)
        found = augmentation.render(image, np.array([*box, flip]))
        assert np.array_equal(found, expected)
        params = [*box, flip]
        plain = reference.render("imagenet-weak", augmentation.parameters, image, params)
        assert np.array_equal(found, plain)


@pytest.mark.parametrize(
    "box", [(0, 0, 11, 5), (0, 0, 5, 21), (-1, 0, 5, 5), (6, 0, 5, 5), (0, 16, 5, 5), (0, 0, 0, 5)]
)
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(PixelError, match="not in an image of height 10, width 20"):
        ImagenetWeak(size=4).render(photo(10, 20), np.array([*box, 0]))


def test_parameters_out_of_range_are_refused():
    with pytest.raises(UsageError, match="size of imagenet-weak is 0"):
        ImagenetWeak(size=0)
    with pytest.raises(UsageError, match="did you mean 'bicubic'"):
        ImagenetWeak(interpolation="bicubik")
    with pytest.raises(UsageError, match="expected yes or no"):
        ImagenetWeak(flip="maybe")
