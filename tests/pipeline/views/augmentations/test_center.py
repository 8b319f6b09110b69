"""`center` is torchvision's Resize and CenterCrop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tvf

from logitbank.pipeline.views import Center
from logitbank.stores.errors import PixelError, UsageError
from tests.reference import views as reference

SIDES = st.integers(1, 90)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@given(
    SIDES, SIDES, st.integers(1, 40), st.integers(0, 30), st.sampled_from(["bilinear", "bicubic"])
)
def test_a_view_is_torchvisions(height, width, size, margin, interpolation):
    augmentation = Center(size=size, resize=size + margin, interpolation=interpolation)
    image = photo(height, width)
    params = augmentation.draw(0, [0], 0, [[height, width]])
    assert params.dtype == np.int32
    resized = tvf.resize(Image.fromarray(image), size + margin, InterpolationMode(interpolation))
    expected = np.asarray(tvf.center_crop(resized, [size, size]))
    assert np.array_equal(augmentation.render(image, params[0]), expected)
    plain = reference.render("center", augmentation.parameters, image, params[0])
    assert np.array_equal(plain, expected)


def test_the_shorter_side_is_the_size_over_seven_eighths():
    assert Center().draw(0, [0], 0, [[375, 500]]).tolist() == [[256, 341, 16, 58]]
    assert Center(size=32).draw(0, [0], 0, [[64, 64]]).tolist() == [[37, 37, 2, 2]]


def test_an_image_of_the_size_stays_as_it_is_unless_resizing_is_asked_for():
    image = photo(32, 32)
    params = Center(size=32).draw(5, [9], 0, [[32, 32]])[0]
    assert params.tolist() == [32, 32, 0, 0]
    assert np.array_equal(Center(size=32).render(image, params), image)
    assert Center(size=32, resize=37).draw(0, [0], 0, [[32, 32]])[0, 0] == 37


def test_images_of_several_sizes_are_drawn_together():
    sizes = [[32, 32], [40, 80], [80, 40], [32, 33]]
    together = Center(size=32).draw(0, range(4), 0, sizes)
    alone = [Center(size=32).draw(0, [0], 0, [size])[0] for size in sizes]
    assert np.array_equal(together, alone)


def test_there_is_one_view():
    assert Center().count == 1
    with pytest.raises(UsageError, match="view 1 of center"):
        Center().draw(0, [0], 1, [[300, 300]])


@pytest.mark.parametrize("resize", [31, 0, "automatic", True, 2.5])
def test_a_resize_that_cant_be_meant_is_refused(resize):
    with pytest.raises(UsageError, match="resize of center"):
        Center(size=32, resize=resize)


@pytest.mark.parametrize("params", [(0, 40, 0, 0), (40, 40, 9, 0), (40, 40, 0, -1), (31, 40, 0, 0)])
def test_parameters_that_leave_the_image_are_refused(params):
    with pytest.raises(PixelError, match="center: "):
        Center(size=32).render(photo(40, 40), np.array(params))
