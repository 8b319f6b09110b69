"""`cifar-strong` and `imagenet-strong`: a crop and flip of their own, then what is strong."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from logitbank.pipeline.views import (
    CifarStrong,
    CifarWeak,
    ImagenetStrong,
    ImagenetWeak,
    ViewRenderer,
    augmentation_from,
    check_views,
    parse_augmentation,
    parse_views,
)
from logitbank.stores.errors import DatasetError, PixelError, UsageError
from tests.pipeline.views.view_examples import file_dataset, memory_dataset, random_images
from tests.reference import strong_views as reference

SEEDS = st.integers(0, 2**64 - 1)
SAMPLES = st.integers(0, 2**32 - 1)
CIFAR = st.builds(
    CifarStrong,
    st.integers(1, 40),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
)
IMAGENET = st.builds(
    ImagenetStrong,
    st.integers(1, 40),
    st.sampled_from(["bilinear", "nearest"]),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
)
MEMORY = memory_dataset(count=30, side=8)
SMALL = CifarStrong(size=8, pad=1)
MANY = np.arange(8000)


def sides_for(augmentation, count: int) -> list[list[int]]:
    """Sizes of images that it takes."""
    is_square = isinstance(augmentation, CifarStrong | CifarWeak)
    return [[augmentation.size] * 2 if is_square else [375, 500]] * count


def drawn_by(augmentation, seed: int = 1, view: int = 0, samples=MANY) -> np.ndarray:
    return augmentation.draw(seed, samples, view, sides_for(augmentation, len(samples)))


# ---- drawing


@given(CIFAR, SEEDS, SAMPLES, SAMPLES)
def test_a_cifar_draw_is_the_one_of_the_definition(augmentation, seed, sample, view):
    found = augmentation.draw(seed, [sample], view, [[augmentation.size] * 2])
    assert found.dtype == np.int16
    expected = reference.cifar_strong_params(augmentation.parameters, seed, sample, view)
    assert found[0].tolist() == expected


@given(IMAGENET, SEEDS, SAMPLES, SAMPLES, st.integers(1, 700), st.integers(1, 700))
def test_an_imagenet_draw_is_the_one_of_the_definition(
    augmentation, seed, sample, view, height, width
):
    found = augmentation.draw(seed, [sample], view, [[height, width]])
    assert found.dtype == np.int32
    expected = reference.imagenet_strong_params(
        augmentation.parameters, seed, sample, view, (height, width)
    )
    assert found[0].tolist() == expected


@given(st.one_of(CIFAR, IMAGENET), SEEDS, st.lists(SAMPLES, min_size=1, max_size=6))
def test_a_draw_does_not_depend_on_its_neighbours(augmentation, seed, samples):
    together = drawn_by(augmentation, seed, 3, samples)
    assert together.shape == (len(samples), len(augmentation.columns))
    for row, sample in zip(together, samples, strict=True):
        assert np.array_equal(row, drawn_by(augmentation, seed, 3, [sample])[0])


@given(SEEDS, st.sampled_from([CifarStrong(), ImagenetStrong()]))
def test_a_changed_setting_leaves_the_other_columns_as_they_were(seed, augmentation):
    def by_column(**changed):
        other = replace(augmentation, **changed)
        return dict(zip(other.columns, drawn_by(other, seed, samples=range(4)).T, strict=True))

    whole = by_column(operations=4)
    others = [{"operations": 2}, {"operations": 0}, {"cutout": False}, {"flip": False}]
    for changed in others:
        found = by_column(**changed)
        if changed == {"flip": False}:
            assert not found.pop("flip").any()
        assert all(np.array_equal(whole[name], values) for name, values in found.items())


def test_the_columns_name_what_is_drawn():
    tail = ("operation_1", "magnitude_1", "operation_2", "magnitude_2")
    box = ("cutout_top", "cutout_left", "cutout_height", "cutout_width")
    assert CifarStrong().columns == ("dy", "dx", "flip", *tail, *box)
    assert ImagenetStrong().columns == ("top", "left", "height", "width", "flip", *tail, *box)
    assert CifarStrong(operations=1, cutout=False).columns == ("dy", "dx", "flip", *tail[:2])


@pytest.mark.parametrize(
    ("weak", "strong", "shared"),
    [(CifarWeak(), CifarStrong(), 3), (ImagenetWeak(), ImagenetStrong(), 5)],
)
def test_weak_and_strong_views_under_one_seed_are_independent(weak, strong, shared):
    here, there = drawn_by(weak), drawn_by(strong)
    for own in range(shared):
        for column in range(there.shape[1]):
            assert abs(stats.spearmanr(here[:, own], there[:, column]).statistic) < 0.045
    same_flips = int((here[:, shared - 1] == there[:, shared - 1]).sum())
    assert stats.binomtest(same_flips, len(MANY), 0.5).pvalue > 1e-3


@given(SEEDS, SAMPLES, st.integers(0, 161))
@settings(max_examples=50)
def test_no_seed_makes_the_two_draw_the_same(seed, sample, view):
    samples = (sample + np.arange(64)) % 2**32
    pairs = [(CifarWeak(), CifarStrong()), (ImagenetWeak(), ImagenetStrong())]
    for weak, strong in pairs:
        ours, theirs = drawn_by(strong, seed, view, samples), drawn_by(weak, seed, view, samples)
        assert not np.array_equal(ours[:, : theirs.shape[1]], theirs)


@pytest.mark.parametrize("augmentation", [CifarStrong(), ImagenetStrong()])
def test_the_columns_of_a_view_and_of_other_views_samples_and_seeds_are_independent(augmentation):
    here = drawn_by(augmentation)
    others = [
        drawn_by(augmentation, view=1),
        drawn_by(augmentation, seed=2),
        drawn_by(augmentation, samples=MANY + 1),
    ]
    for other in others:
        for column in range(here.shape[1]):
            assert abs(stats.spearmanr(here[:, column], other[:, column]).statistic) < 0.045
    operations = here[:, augmentation.columns.index("operation_1")]
    for name in ("dy", "flip", "operation_2", "cutout_top", "cutout_height"):
        if name in augmentation.columns:
            column = here[:, augmentation.columns.index(name)]
            assert abs(stats.spearmanr(operations, column).statistic) < 0.045


def test_crops_and_flips_of_cifar_are_even():
    drawn = drawn_by(CifarStrong())
    outcomes = (drawn[:, 2] * 9 + drawn[:, 0]) * 9 + drawn[:, 1]
    assert stats.chisquare(np.bincount(outcomes, minlength=162)).pvalue > 1e-3


# ---- rendering


@given(CIFAR, SEEDS, st.integers(0, 1000))
def test_a_cifar_view_is_what_plain_pillow_makes_of_its_stored_numbers(augmentation, seed, sample):
    image = random_images(1, augmentation.size, seed % 2**32)[0]
    params = drawn_by(augmentation, seed, 0, [sample])[0]
    found = augmentation.render(image, params)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    expected = reference.render("cifar-strong", augmentation.parameters, image, params)
    assert np.array_equal(found, expected)


@given(IMAGENET, SEEDS, st.integers(1, 90), st.integers(1, 90))
def test_an_imagenet_view_is_what_plain_pillow_makes_of_its_stored_numbers(
    augmentation, seed, height, width
):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    params = augmentation.draw(seed, [7], 2, [[height, width]])[0]
    found = augmentation.render(image, params)
    expected = reference.render("imagenet-strong", augmentation.parameters, image, params)
    assert np.array_equal(found, expected)


def test_rendering_leaves_the_image_alone():
    image = random_images(1, 8)[0]
    before = image.copy()
    for params in drawn_by(SMALL, samples=range(50)):
        SMALL.render(image, params)
    assert np.array_equal(image, before)


def test_without_operations_and_cutout_a_strong_view_is_a_weak_one():
    image = random_images(1)[0]
    pairs = [
        (CifarStrong(8, 1, operations=0, cutout=False), CifarWeak(8, 1)),
        (ImagenetStrong(6, operations=0, cutout=False), ImagenetWeak(6)),
    ]
    for strong, weak in pairs:
        for params in strong.draw(3, range(20), 0, [[8, 8]] * 20):
            assert np.array_equal(strong.render(image, params), weak.render(image, params))


@pytest.mark.parametrize("augmentation", [SMALL, ImagenetStrong(size=12)])
@settings(max_examples=15)
@given(order=st.permutations(range(30)), batch=st.integers(1, 30), threads=st.integers(0, 4))
def test_pixels_in_memory_do_not_depend_on_batching_order_or_threads(
    augmentation, order, batch, threads
):
    whole, params = ViewRenderer(MEMORY, augmentation).draw(3, 1, range(30))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        renderer = ViewRenderer(MEMORY, augmentation, pool=pool if threads else None)
        for start in range(0, 30, batch):
            part = order[start : start + batch]
            pixels, drawn = renderer.draw(3, 1, part)
            assert torch.equal(pixels, whole[part])
            assert np.array_equal(drawn, params[part])
            assert torch.equal(renderer.render(part, params[part]), whole[part])


def test_pixels_of_files_are_the_same_alone_and_in_a_pool(tmp_path):
    photos, augmentation = file_dataset(tmp_path / "photos"), ImagenetStrong(size=12)
    alone = ViewRenderer(photos, augmentation).draw_views(5, (0, 4), range(12))
    with ThreadPoolExecutor(3) as pool:
        pooled = ViewRenderer(photos, augmentation, pool=pool).draw_views(5, (0, 4), range(12))
    for (pixels, params), (other_pixels, other_params) in zip(alone, pooled, strict=True):
        assert torch.equal(pixels, other_pixels)
        assert np.array_equal(params, other_params)
        for sample in range(12):
            expected = reference.render(
                "imagenet-strong", augmentation.parameters, photos.pixels(sample), params[sample]
            )
            assert np.array_equal(pixels[sample], expected)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("dy", 3, "cifar-strong: the box at top 3, left"),
        ("dx", -1, "cifar-strong: the box at top"),
        ("flip", 2, "cifar-strong: flip 2 is outside what is drawn"),
        ("operation_2", 14, "cifar-strong: operation 14 is not one"),
        ("magnitude_1", 32000, "cifar-strong: magnitude 32000 of "),
        ("cutout_left", 8, "cifar-strong: cutout's box at top"),
        ("cutout_height", 0, "cifar-strong: cutout's box at top"),
    ],
)
def test_numbers_that_are_never_drawn_are_refused(column, value, message):
    params = drawn_by(SMALL, samples=[0])[0]
    params[SMALL.columns.index(column)] = value
    with pytest.raises(PixelError, match=message):
        SMALL.render(random_images(1)[0], params)


def test_a_flip_where_there_is_none_and_a_box_outside_are_refused():
    image, plain = random_images(1)[0], ImagenetStrong(4, flip=False, operations=0, cutout=False)
    with pytest.raises(PixelError, match="imagenet-strong: flip 1 is outside what is drawn"):
        plain.render(image, np.array([0, 0, 8, 8, 1]))
    with pytest.raises(PixelError, match="imagenet-strong: the box at top 1, left 0 of height 8"):
        plain.render(image, np.array([1, 0, 8, 8, 0]))


def test_images_of_another_size_are_refused():
    with pytest.raises(DatasetError, match="cifar-strong of size 32 can't take an image of 28 x"):
        CifarStrong().draw(0, [0], 0, [[28, 28]])
    with pytest.raises(DatasetError, match=r"that size \(cifar-strong:size=...\)"):
        CifarStrong().render(random_images(1)[0], drawn_by(CifarStrong(), samples=[0])[0])


# ---- names and settings


@pytest.mark.parametrize(
    ("spec", "augmentation"),
    [
        ("cifar-strong", CifarStrong(32, 4, True, 2, True)),
        ("cifar-strong:cutout=no", CifarStrong(cutout=False)),
        ("cifar-strong:pad=2,flip=no,operations=1", CifarStrong(32, 2, False, 1)),
        ("imagenet-strong", ImagenetStrong(224, "bilinear", True, 2, True)),
        ("imagenet-strong:size=160,operations=3", ImagenetStrong(160, operations=3)),
    ],
)
def test_a_spec_names_a_strong_augmentation_and_its_parameters(spec, augmentation):
    assert parse_augmentation(spec) == augmentation
    assert parse_augmentation(spec.split(":")[0], size=28).size == 28


@given(st.one_of(CIFAR, IMAGENET))
def test_a_manifest_gives_the_augmentation_back(augmentation):
    parameters = json.loads(json.dumps(augmentation.parameters))
    assert augmentation_from(augmentation.name, parameters) == augmentation


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar-stong", "did you mean 'cifar-strong'"),
        ("cifar-strong:cutuot=no", "unknown parameter of cifar-strong 'cutuot': did you mean"),
        ("cifar-strong:operation=1", "did you mean 'operations'"),
        ("cifar-strong:operations=17", "operations of cifar-strong is 17: expected a whole number"),
        ("cifar-strong:operations=-1", "operations of cifar-strong is -1"),
        ("cifar-strong:cutout=3", "cutout of cifar-strong is 3: expected yes or no"),
        ("cifar-strong:flip=2", "flip of cifar-strong is 2: expected yes or no"),
        ("cifar-strong:pad=128", "pad of cifar-strong is 128: expected a whole number from 0 to"),
        ("imagenet-strong:size=0", "size of imagenet-strong is 0"),
        ("imagenet-strong:interpolation=cubic", "did you mean 'bicubic'"),
        ("imagenet-strong:flip=maybe", "flip of imagenet-strong is 'maybe'"),
        ("imagenet-strong:pad=2", "unknown parameter of imagenet-strong 'pad'"),
    ],
)
def test_a_spec_that_cant_be_meant_is_refused(spec, message):
    with pytest.raises(UsageError) as refusal:
        parse_augmentation(spec)
    assert message in str(refusal.value)


@pytest.mark.parametrize("augmentation", [CifarStrong(), ImagenetStrong()])
def test_there_is_no_end_of_strong_views(augmentation):
    assert augmentation.count is None
    check_views(augmentation, 10**6)
    with pytest.raises(UsageError, match="strong has no end of views: give a number of them"):
        parse_views(augmentation, "all")
