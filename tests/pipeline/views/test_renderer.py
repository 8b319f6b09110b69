"""A view has the same pixels however it is rendered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitbank.pipeline.views import Center, CifarWeak, ImagenetWeak, ViewRenderer, pixel_crc
from logitbank.pipeline.views.rendering.batched_cifar import PaddedImages
from logitbank.stores.errors import DatasetError, PixelError
from tests.pipeline.views.view_examples import file_dataset, memory_dataset, random_images
from tests.reference import views as reference

MEMORY = memory_dataset(count=30, side=8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return file_dataset(tmp_path_factory.mktemp("photos") / "root")


def plain(dataset, augmentation, samples, params) -> np.ndarray:
    rows = [
        reference.render(augmentation.name, augmentation.parameters, dataset.pixels(sample), row)
        for sample, row in zip(samples, params, strict=True)
    ]
    return np.stack(rows)


@given(
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([0, 2**30]),
    st.lists(st.integers(0, 29), min_size=1, max_size=12),
    st.data(),
)
def test_batched_views_of_images_in_memory_are_the_plain_ones(
    pad, flip, mirrored_bytes, samples, data
):
    augmentation = CifarWeak(size=8, pad=pad, flip=flip)
    padded = PaddedImages(MEMORY.images, augmentation, mirrored_bytes=mirrored_bytes)
    offset = st.integers(0, 2 * pad)
    params = np.array(
        [data.draw(st.tuples(offset, offset, st.integers(0, int(flip)))) for _ in samples], np.int16
    )
    pixels = padded.render(np.array(samples), params)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous()
    assert np.array_equal(pixels.numpy(), plain(MEMORY, augmentation, samples, params))


@given(
    st.permutations(range(30)), st.integers(1, 30), st.integers(0, 17), st.integers(0, 2**64 - 1)
)
def test_pixels_in_memory_do_not_depend_on_batching_or_order(order, batch, view, seed):
    augmentation = CifarWeak(size=8, pad=1)
    whole, params = ViewRenderer(MEMORY, augmentation).draw(seed, view, range(30))
    renderer = ViewRenderer(MEMORY, augmentation)
    for start in range(0, 30, batch):
        part = order[start : start + batch]
        pixels, drawn = renderer.draw(seed, view, part)
        assert torch.equal(pixels, whole[part])
        assert np.array_equal(drawn, params[part])


@pytest.mark.parametrize("augmentation", [ImagenetWeak(size=12), Center(size=12)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(order=st.permutations(range(12)), batch=st.integers(1, 12), threads=st.integers(0, 4))
def test_pixels_of_files_do_not_depend_on_batching_order_or_threads(
    photos, augmentation, order, batch, threads
):
    whole, params = ViewRenderer(photos, augmentation).draw(3, 0, range(12))
    assert np.array_equal(whole.numpy(), plain(photos, augmentation, range(12), params))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        renderer = ViewRenderer(photos, augmentation, pool=pool if threads else None)
        for start in range(0, 12, batch):
            part = order[start : start + batch]
            pixels, drawn = renderer.draw(3, 0, part)
            assert torch.equal(pixels, whole[part])
            assert np.array_equal(drawn, params[part])
            assert torch.equal(renderer.render(part, params[part]), whole[part])


def test_threads_that_share_a_renderer_draw_the_same():
    dataset, augmentation = memory_dataset(3000), CifarWeak(size=8, pad=2)
    batches = [np.arange(start, start + 500) for start in range(0, 3000, 500)] * 4
    alone = ViewRenderer(dataset, augmentation)
    expected = [pixel_crc(alone.draw(1, 7, batch)[0]).tolist() for batch in batches]
    shared = ViewRenderer(dataset, augmentation)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: pixel_crc(shared.draw(1, 7, batch)[0]), batches))
    assert [each.tolist() for each in found] == expected


def test_a_change_of_seed_is_noticed():
    renderer = ViewRenderer(MEMORY, CifarWeak(size=8))
    first = renderer.draw(1, 0, range(30))[1]
    renderer.draw(2, 0, range(30))
    assert np.array_equal(renderer.draw(1, 0, range(30))[1], first)
    assert not np.array_equal(renderer.draw(2, 0, range(30))[1], first)


@pytest.mark.parametrize("augmentation", [ImagenetWeak(size=6), Center(size=6), Center(size=8)])
def test_images_in_memory_are_rendered_by_pillow_under_other_augmentations(augmentation):
    pixels, params = ViewRenderer(MEMORY, augmentation).draw(0, 0, range(30))
    assert np.array_equal(pixels.numpy(), plain(MEMORY, augmentation, range(30), params))


def test_centres_of_images_of_the_size_are_the_images():
    pixels, _ = ViewRenderer(MEMORY, Center(size=8)).draw(0, 0, range(30))
    assert np.array_equal(pixels.numpy(), MEMORY.images)


def test_a_checksum_is_the_crc32c_of_an_images_bytes_in_height_width_channel_order():
    images = random_images(5)
    expected = [google_crc32c.value(image.tobytes()) for image in images]
    assert pixel_crc(torch.from_numpy(images)).tolist() == expected
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    assert pixel_crc(channels_first.permute(0, 2, 3, 1)).tolist() == expected
    assert pixel_crc(images[:0]).shape == (0,)


def test_images_in_memory_of_another_size_are_refused_at_once():
    with pytest.raises(DatasetError, match="size 32 can't take an image of 8 x 8"):
        ViewRenderer(MEMORY, CifarWeak())


def test_parameters_that_no_window_has_are_refused():
    renderer = ViewRenderer(MEMORY, CifarWeak(size=8, pad=1, flip=False))
    for wrong in ([3, 0, 0], [0, -1, 0], [0, 0, 1]):
        with pytest.raises(PixelError, match="outside what cifar-weak draws"):
            renderer.render([0, 1], np.array([[0, 0, 0], wrong]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mirrored_bytes", [0, 2**30])
def test_a_gpu_gives_the_same_pixels(mirrored_bytes):
    augmentation = CifarWeak(size=8, pad=2)
    samples, view = np.arange(30), 11
    params = augmentation.draw(0, samples, view, [[8, 8]] * 30)
    here = PaddedImages(MEMORY.images, augmentation, "cpu", mirrored_bytes)
    there = PaddedImages(MEMORY.images, augmentation, "cuda", mirrored_bytes)
    assert torch.equal(there.render(samples, params).cpu(), here.render(samples, params))
