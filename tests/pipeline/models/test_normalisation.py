"""Normalisation: one function, the same bits everywhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from logitbank.pipeline.models.normalisation import (
    CIFAR,
    HALF,
    IMAGENET,
    Normalisation,
    default_normalisation,
    normalise,
)
from logitbank.stores.errors import UsageError


def dataset(name: str, size: int | None = None) -> SimpleNamespace:
    images = None if size is None else np.zeros((2, size, size, 3), np.uint8)
    return SimpleNamespace(name=name, images=images)


def test_normalise_is_its_formula_in_float32():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(2, 16, 8, 3)
    found = normalise(pixels, CIFAR)
    x = pixels.numpy().astype(np.float32)
    mean, std = (np.array(each, np.float32) for each in (CIFAR.mean, CIFAR.std))
    expected = ((x / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    assert found.dtype == torch.float32
    assert found.shape == (2, 3, 16, 8)
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), expected)


def test_normalise_leaves_the_pixels_as_they_are():
    pixels = torch.full((1, 2, 2, 3), 7, dtype=torch.uint8)
    normalise(pixels, HALF)
    assert (pixels == 7).all()


def test_normalise_first_used_in_inference_mode_serves_training_as_well():
    other = Normalisation((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    pixels = torch.zeros((1, 4, 4, 3), dtype=torch.uint8)
    with torch.inference_mode():
        normalise(pixels, other)
    weight = torch.ones(2, 3, 1, 1, requires_grad=True)
    torch.conv2d(normalise(pixels, other), weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_normalise_gives_the_same_bits_on_cuda():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(2, 16, 8, 3)
    assert torch.equal(normalise(pixels.cuda(), IMAGENET).cpu(), normalise(pixels, IMAGENET))


@pytest.mark.parametrize(
    ("made_from", "expected"),
    [
        (dataset("cifar100", 32), CIFAR),
        (dataset("digits", 32), CIFAR),
        (dataset("hdf5", 32), CIFAR),
        (dataset("hdf5", 64), HALF),
        (dataset("imagefolder"), IMAGENET),
        (dataset("imagenet"), IMAGENET),
        (dataset("import"), HALF),
    ],
)
def test_default_normalisation_goes_by_the_dataset(made_from, expected):
    assert default_normalisation(made_from) == expected


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), (1, 1, 1), "mean is three finite numbers"),
        ((0.5, 0.5, float("nan")), (1, 1, 1), "mean is three finite numbers"),
        ((0.5, 0.5, 0.5), (1, 0, 1), "std is positive"),
    ],
)
def test_a_normalisation_that_cant_be_meant_is_refused(mean, std, message):
    with pytest.raises(UsageError, match=message):
        Normalisation.of(mean, std)
