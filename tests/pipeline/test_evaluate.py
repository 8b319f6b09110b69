"""Accuracy: right where the label attains the maximum, on centre crops, by any batching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.evaluate import evaluate, label_ranks
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.models.normalisation import HALF
from logitbank.stores.errors import DatasetError

VALUES = st.sampled_from([-2.0, -0.0, 0.0, 1.0, 3.0])


def rank(row: np.ndarray, label: int) -> int:
    """By the book: where the label stands by value descending, then class ascending."""
    if row[label] == row.max():
        return 0
    order = sorted(range(len(row)), key=lambda c: (-row[c], c))
    return order.index(label)


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=VALUES))
def test_label_ranks_by_the_book(logits):
    targets = np.arange(len(logits)) % logits.shape[1]
    found = label_ranks(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.tolist() == [rank(row, y) for row, y in zip(logits, targets, strict=True)]


@pytest.mark.parametrize(
    ("row", "label", "expected"),
    [
        ([1.0, 5.0, 5.0, 0.0], 2, 0),  # a tie for the maximum counts as right
        ([3.0, 1.0, 1.0, 0.0], 2, 2),  # below it, ties go by class
        ([3.0, 1.0, 1.0, 0.0], 1, 1),
        ([0.0, -0.0], 1, 0),
        ([float("nan"), 1.0, 0.0], 1, 1),  # NaN is never a right answer
        ([float("nan"), 1.0, 0.0], 0, 3),
    ],
)
def test_label_ranks_worked(row, label, expected):
    assert label_ranks(torch.tensor([row]), torch.tensor([label])).item() == expected


class Brightness(nn.Module):
    """Says of a grey image how near its value is to each of ten."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images.mean((1, 2, 3))
        return -(value[:, None] - torch.linspace(-1, 1, 10)).abs()


@pytest.fixture
def model() -> LoadedModel:
    return LoadedModel(Brightness(), "import:tests:Brightness", 10, 8, HALF)


def greys(classes: list[int], size: int = 8, known: int = 10) -> MemoryDataset:
    """Grey images: sample i has the grey that `Brightness` takes for class i % 10."""
    values = np.rint(np.linspace(0, 255, 10)).astype(np.uint8)
    images = np.empty((len(classes), size, size, 3), np.uint8)
    images[:] = values[np.arange(len(classes)) % 10, None, None, None]
    names = tuple(str(number) for number in range(known))
    return MemoryDataset("digits", "test", images, np.array(classes, np.int32), names, "greys")


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_accuracy_in_percent_by_any_batching(model, batch_size):
    # Of 20: ten right, six off by two (rank 3 or 4), four far off.
    right = [i % 10 for i in range(10)]
    near = [2, 3, 4, 5, 6, 7]
    far = [0, 0, 0, 0]
    found = evaluate(model, greys(right + near + far), batch_size=batch_size)
    assert (found.top1, found.top5, found.samples) == (50.0, 80.0, 20)


def test_progress_counts_to_the_end(model):
    seen = []
    evaluate(model, greys([0] * 10), batch_size=4, progress=lambda *at: seen.append(at))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_images_are_resized_and_cropped_as_the_model_asks():
    """A white square on black that exactly fills the crop: at another resize, black shows."""
    image = np.zeros((1, 16, 20, 3), np.uint8)
    image[:, 4:12, 6:14] = 255
    names = tuple(str(number) for number in range(10))
    dataset = MemoryDataset("hdf5", "test", image, np.array([9], np.int32), names, "square")
    crop = LoadedModel(Brightness(), "m", 10, 8, HALF, resize=16, interpolation="nearest")
    assert evaluate(crop, dataset).top1 == 100
    whole = LoadedModel(Brightness(), "m", 10, 8, HALF, resize=8, interpolation="nearest")
    assert evaluate(whole, dataset).top1 == 0


def test_a_label_that_is_no_class_of_the_model_is_named(model):
    """A split of a dataset without class names may have a class more than the other one."""
    dataset = greys([0, 1, 10, 3], known=11)
    with pytest.raises(DatasetError, match=r"sample 2 .* has class 10, but import:tests:Bright"):
        evaluate(model, dataset)
    assert evaluate(model, dataset, samples=np.array([0, 1, 3])).samples == 3
