"""Stores of strong views: rendered from what they hold, anywhere, and checked as weak ones."""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from logitbank.pipeline.views import (
    CifarStrong,
    ImagenetStrong,
    StoredViews,
    ViewRenderer,
    check_pixels,
)
from logitbank.pipeline.views.dataset import ViewDataset
from logitbank.stores.errors import PixelError
from tests.pipeline.views.view_examples import file_dataset, write_store
from tests.reference import strong_views as reference

CIFAR, IMAGENET = CifarStrong(size=8, pad=1), ImagenetStrong(size=12)
MAGNITUDE = CIFAR.columns.index("magnitude_1")


@pytest.fixture(scope="module")
def stored(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("strong") / "raw.zarr"
    return StoredViews(write_store(path, dataset, augmentation=CIFAR))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return file_dataset(tmp_path_factory.mktemp("photos") / "root")


@pytest.fixture(scope="module")
def stored_photos(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("strong") / "photos.zarr"
    return StoredViews(write_store(path, photos, augmentation=IMAGENET))


def drawn_one_by_one(images, augmentation) -> tuple[np.ndarray, np.ndarray]:
    renderer = ViewRenderer(images, augmentation)
    drawn = [renderer.draw(9, 2, [sample]) for sample in range(len(images))]
    pixels, params = zip(*drawn, strict=True)
    return np.concatenate(pixels), np.concatenate(params)


def error_of(dataset, stored, view=1) -> str:
    with pytest.raises(PixelError) as refusal:
        check_pixels(ViewRenderer(dataset, stored.kind), stored, view)
    return str(refusal.value)


@pytest.mark.parametrize("name", ["cifar-strong", "imagenet-strong"])
def test_a_store_alone_says_what_its_views_are(name, request):
    fixtures = {"cifar-strong": ("dataset", "stored"), "imagenet-strong": ("photos",) * 2}
    images = request.getfixturevalue(fixtures[name][0])
    views = request.getfixturevalue("stored" if name == "cifar-strong" else "stored_photos")
    identity = views.store.manifest.augmentation
    assert identity.name == name
    for view in range(3):
        check_pixels(ViewRenderer(images, views.kind), views, view)
        params = views.params(view, range(views.samples))
        assert params.shape == (views.samples, len(identity.columns))
        data = ViewDataset(images, views)
        for sample in range(0, views.samples, 5):
            pixels, target, row = data[view * views.samples + sample]
            image = images.pixels(sample)
            plain = reference.render(name, identity.parameters, image, params[sample])
            assert np.array_equal(pixels, plain)
            assert (target, row) == (images.targets[sample], view * views.samples + sample)


def test_views_are_drawn_and_rendered_alike_in_another_process(dataset, photos):
    """Drawn there anew, from nothing but the seed: a spawned process shares no state."""
    both = ((dataset, CIFAR), (photos, IMAGENET))
    here = [
        ViewRenderer(images, augmentation).draw(9, 2, range(len(images)))
        for images, augmentation in both
    ]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = [
            pool.submit(drawn_one_by_one, images, augmentation) for images, augmentation in both
        ]
    for (pixels, params), other in zip(here, there, strict=True):
        other_pixels, other_params = other.result()
        assert np.array_equal(pixels, other_pixels)
        assert np.array_equal(params, other_params)


def test_a_changed_magnitude_is_told_by_drawing_again(dataset, tmp_path):
    drawn = CIFAR.draw(5, range(40), 1, [[8, 8]] * 40)
    number = CIFAR.columns.index("operation_1")
    # A brightness, whose magnitude has an effect on every image.
    sample = int(np.flatnonzero(drawn[:, number] == 1)[0])

    def change(view, samples, values):
        values[samples == sample, MAGNITUDE] = 820 if drawn[sample, MAGNITUDE] > 8000 else 15564
        return values

    path = write_store(tmp_path / "raw.zarr", dataset, augmentation=CIFAR, view_params=change)
    message = error_of(dataset, StoredViews(path))
    assert f"sample {sample} " in message
    assert "the stored view parameters were changed: (dy, dx, flip, operation_1, " in message
    assert f"{drawn[sample].tolist()} was drawn and gives the cached pixels" in message


def test_numbers_that_no_view_has_are_changed_ones(dataset, tmp_path):
    def change(view, samples, values):
        values[samples == 33, MAGNITUDE - 1] = 99
        return values

    path = write_store(tmp_path / "raw.zarr", dataset, augmentation=CIFAR, view_params=change)
    stored = StoredViews(path)
    assert "sample 33 " in error_of(dataset, stored)
    with pytest.raises(PixelError, match="the stored view parameters were changed"):
        ViewDataset(dataset, stored)[40 + 33]


def test_a_changed_image_and_another_order_are_named(dataset, stored):
    images = dataset.images.copy()
    images[17] = 255 - images[17]
    assert "the image changed: its id is" in error_of(
        dataclasses.replace(dataset, images=images), stored
    )
    order = np.roll(np.arange(40), 3)
    other = dataclasses.replace(
        dataset, images=dataset.images[order], targets=dataset.targets[order]
    )
    assert "the cached image is now sample 3;" in error_of(other, stored)


def test_a_store_of_other_settings_is_of_other_columns(dataset, tmp_path):
    augmentation = CifarStrong(size=8, pad=1, operations=1, cutout=False)
    stored = StoredViews(write_store(tmp_path / "raw.zarr", dataset, augmentation=augmentation))
    assert stored.kind == augmentation
    assert stored.params(0, range(40)).shape == (40, 5)
    check_pixels(ViewRenderer(dataset, stored.kind), stored, 2)
