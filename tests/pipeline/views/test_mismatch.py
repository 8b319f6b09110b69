"""Pixels that are not those the teacher saw are caught, and the cause is named."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from logitbank.pipeline.datasets.folders import folder_dataset
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.views import (
    CifarWeak,
    StoredViews,
    ViewRenderer,
    check_pixels,
    explain_mismatch,
)
from logitbank.stores.errors import PixelError
from tests.pipeline.views.view_examples import (
    file_dataset,
    write_photos,
    write_store,
)

CIFAR = CifarWeak(size=8, pad=1)


class Items:
    """A user's own dataset: items alone, no ids."""

    def __init__(self, images, targets):
        self.items = list(zip(images, targets.tolist(), strict=True))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, sample):
        return self.items[sample]


@pytest.fixture(scope="module")
def stored(dataset, tmp_path_factory):
    return StoredViews(write_store(tmp_path_factory.mktemp("memory") / "raw.zarr", dataset))


def error_of(dataset, stored, view=1, samples=None) -> str:
    renderer = ViewRenderer(dataset, stored.kind)
    with pytest.raises(PixelError) as refusal:
        check_pixels(renderer, stored, view, samples=samples)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def swapped(view_of_change, sample):
    """A change of one sample's stored parameters to the next sample's."""

    def change(view, samples, values):
        if view == view_of_change and sample in samples:
            place = list(samples).index(sample)
            values[place] = values[place + 1]
        return values

    return change


def test_the_pixels_that_were_cached_pass(dataset, stored):
    renderer = ViewRenderer(dataset, stored.kind)
    for view in range(3):
        check_pixels(renderer, stored, view)


def test_a_changed_image_is_named(dataset, stored):
    images = dataset.images.copy()
    images[17, 4, 4, 1] ^= 1
    message = error_of(dataclasses.replace(dataset, images=images), stored)
    assert message.startswith("sample 17 (sample 17 of random.h5), view 1: its pixels are not")
    assert "the image changed: its id is" in message
    assert "cache again" in message


def test_another_order_is_told_from_a_changed_image(dataset, stored):
    order = np.roll(np.arange(40), 3)
    images, targets = dataset.images[order], dataset.targets[order]
    message = error_of(dataclasses.replace(dataset, images=images, targets=targets), stored)
    assert "sample 0 " in message
    assert "the order of the dataset changed: the cached image is now sample 3;" in message


def test_another_order_is_found_without_ids(dataset, stored):
    order = np.arange(40)
    order[[5, 6]] = [6, 5]
    message = error_of(MapStyleDataset(Items(dataset.images[order], dataset.targets)), stored)
    assert "sample 5 " in message
    assert "the cached image is now sample 6" in message
    renderer = ViewRenderer(MapStyleDataset(Items(dataset.images[order], dataset.targets)), CIFAR)
    assert "the cached image is now sample 5" in explain_mismatch(renderer, stored, 1, 6)


def test_an_image_that_is_nowhere_near_may_have_changed_or_be_decoded_otherwise(dataset, stored):
    order = np.arange(40)[::-1]
    message = error_of(MapStyleDataset(Items(dataset.images[order], dataset.targets)), stored)
    assert "sample 0 " in message
    assert "the image, its place or the library that decodes it changed" in message
    assert "or this is another dataset" in message


def test_changed_parameters_are_told_by_drawing_again(dataset, tmp_path):
    path = write_store(tmp_path / "raw.zarr", dataset, view_params=swapped(1, 20))
    stored = StoredViews(path)
    message = error_of(dataset, stored)
    assert "sample 20 " in message
    assert "the stored view parameters were changed: (dy, dx, flip) = " in message
    drawn = stored.kind.draw(stored.seed, [20], 1, [[8, 8]])[0].tolist()
    assert f"{drawn} was drawn" in message
    check_pixels(ViewRenderer(dataset, stored.kind), stored, 0)


def test_parameters_that_no_view_has_are_changed_ones(dataset, tmp_path):
    def change(view, samples, values):
        values[np.isin(samples, [33, 35])] = 99
        return values

    stored = StoredViews(write_store(tmp_path / "raw.zarr", dataset, view_params=change))
    message = error_of(dataset, stored)
    assert "sample 33 " in message
    assert "the stored view parameters were changed: (dy, dx, flip) = [99, 99, 99]" in message


def test_the_same_image_and_parameters_leave_the_library(tmp_path):
    photos = file_dataset(tmp_path / "photos")
    path = write_store(tmp_path / "raw.zarr", photos)
    stored = StoredViews(path)
    check_pixels(ViewRenderer(photos, stored.kind), stored, 2)
    # Another picture of the same number of bytes: its id, path and size, stays.
    name = photos.where(7)
    size = os.path.getsize(name)
    Image.fromarray(np.zeros_like(photos.pixels(7))).save(name)
    os.truncate(name, size)  # Fills it up with zeros, which a PNG's reader ignores.
    message = error_of(photos, stored, view=2)
    assert f"sample 7 ({name}), view 2" in message
    assert "the library that decodes it changed (cached with Pillow 10.0.0, this is" in message


def test_a_renamed_file_is_found_by_its_id(tmp_path):
    photos = file_dataset(tmp_path / "photos")
    stored = StoredViews(write_store(tmp_path / "raw.zarr", photos))
    write_photos(tmp_path / "photos", per_class=4)
    (tmp_path / "photos" / "a" / "aa.png").write_bytes((tmp_path / "photos/a/00.png").read_bytes())
    (tmp_path / "photos" / "a" / "00.png").unlink()
    message = error_of(folder_dataset("imagefolder", "train", tmp_path / "photos"), stored)
    assert "the order of the dataset changed: the cached image is now sample 3" in message


def test_a_dataset_with_fewer_samples_is_another_one(dataset, stored):
    message = error_of(dataset.head(39), stored)
    assert "the dataset has 39 samples, but 40 of the cached 40 are to be used" in message
    check_pixels(ViewRenderer(dataset.head(39), stored.kind), stored, 0, samples=39)
