"""Augmentations by spec, in a manifest, and how many views they have."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.views import (
    Center,
    CifarWeak,
    ImagenetWeak,
    augmentation_from,
    check_views,
    parse_augmentation,
    parse_views,
)
from logitbank.stores.errors import UsageError

SPECS = {
    "cifar-weak": CifarWeak(32, 4, True),
    "cifar-weak:": CifarWeak(),
    "cifar-weak:pad=2,flip=no": CifarWeak(32, 2, False),
    "cifar-weak:flip=true,size=28": CifarWeak(28, 4, True),
    "imagenet-weak": ImagenetWeak(224, "bilinear", True),
    "imagenet-weak:interpolation=bicubic,size=160": ImagenetWeak(160, "bicubic", True),
    "center": Center(224, "auto", "bilinear"),
    "center:resize=232,interpolation=lanczos": Center(224, 232, "lanczos"),
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_names_an_augmentation_and_its_parameters(spec):
    assert parse_augmentation(spec) == SPECS[spec]


def test_the_models_input_size_is_the_default_and_no_more():
    assert parse_augmentation("cifar-weak:pad=1", size=28) == CifarWeak(28, 1)
    assert parse_augmentation("center:size=64", size=28) == Center(64)


AUGMENTATIONS = st.one_of(
    st.builds(CifarWeak, st.integers(1, 300), st.integers(0, 127), st.booleans()),
    st.builds(ImagenetWeak, st.integers(1, 300), st.sampled_from(["box", "bicubic"])),
    st.builds(Center, st.integers(1, 300), st.one_of(st.just("auto"), st.integers(300, 400))),
)


@given(AUGMENTATIONS)
def test_a_manifest_gives_the_augmentation_back(augmentation):
    parameters = json.loads(json.dumps(augmentation.parameters))
    assert augmentation_from(augmentation.name, parameters) == augmentation
    assert set(parameters) >= {"size"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar-week", "unknown augmentation 'cifar-week': did you mean 'cifar-weak'"),
        ("cifar-weak:pat=2", "unknown parameter of cifar-weak 'pat': did you mean 'pad'"),
        ("cifar-weak:pad", "'pad' is not of the form key=value"),
        ("cifar-weak:pad=2,pad=3", "gives pad twice"),
        ("cifar-weak:pad=many", "pad of cifar-weak is 'many': expected a whole number"),
        ("cifar-weak:flip=2", "flip of cifar-weak is 2: expected yes or no"),
        ("imagenet-weak:interpolation=cubic", "did you mean 'bicubic'"),
        ("center:resize=100", "resize of center is 100: expected a whole number from 224"),
    ],
)
def test_a_spec_that_cant_be_meant_is_refused(spec, message):
    with pytest.raises(UsageError) as refusal:
        parse_augmentation(spec)
    assert message in str(refusal.value)


def test_a_manifest_must_name_every_parameter():
    with pytest.raises(UsageError, match="'cifar-weak' is missing its flip, size"):
        augmentation_from("cifar-weak", {"pad": 4})


def test_all_views_are_as_many_as_there_are():
    assert parse_views(CifarWeak(), "all") == 162
    assert parse_views(Center(), "all") == 1
    assert parse_views(CifarWeak(), "7") == 7
    assert parse_views(ImagenetWeak(), "100000") == 100_000


@pytest.mark.parametrize(
    ("augmentation", "views", "message"),
    [
        (CifarWeak(), "163", "163 views are more than cifar-weak with size=32,pad=4,flip=yes has"),
        (CifarWeak(), "0", "0 views: there must be 1 or more"),
        (CifarWeak(), "-3", "-3 views"),
        (CifarWeak(), "most", "views 'most': expected a number or 'all'"),
        (ImagenetWeak(), "all", "imagenet-weak has no end of views: give a number of them"),
    ],
)
def test_views_that_there_arent_are_refused(augmentation, views, message):
    with pytest.raises(UsageError) as refusal:
        parse_views(augmentation, views)
    assert message in str(refusal.value)


def test_the_last_view_is_not_refused():
    check_views(CifarWeak(), 162)
