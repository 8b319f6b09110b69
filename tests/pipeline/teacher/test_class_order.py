"""A teacher that numbers its classes otherwise is found out; a weak or random one is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import load_model
from logitbank.pipeline.teacher import CacheSettings, clean_accuracy
from logitbank.pipeline.teacher.class_order import require_class_order
from logitbank.stores.errors import LogitbankError


def images(classes: int, each: int, accuracy: float, seed=0):
    """Labels, and the top classes of a teacher that is right so often and else says anything."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each).astype(np.int32)
    is_right = rng.random(len(labels)) < accuracy
    return labels, np.where(is_right, labels, rng.integers(0, classes, len(labels)))


def names(classes: int) -> list[str]:
    return [f"c{number}" for number in range(classes)]


def as_text(classes: int) -> np.ndarray:
    """The number that each class has where folders 0, 1, 10, 11, 2, ... are sorted as text."""
    return np.array([sorted(map(str, range(classes))).index(str(c)) for c in range(classes)])


@pytest.mark.parametrize("accuracy", [0.45, 0.8, 1.0])
@pytest.mark.parametrize("classes", [12, 100, 1000])
def test_classes_sorted_otherwise_are_found_and_shown(classes, accuracy):
    labels, top = images(classes, 20, accuracy)
    with pytest.raises(LogitbankError, match=r"label 2 \(c2\) is the teacher's class") as refused:
        require_class_order("import:mine:t", names(classes), labels, as_text(classes)[top])
    assert "--accept class-order" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_exchanged_classes_of_many_are_found():
    labels, top = images(100, 40, 0.9)
    exchanged = np.arange(100)
    exchanged[[3, 5]] = 5, 3
    with pytest.raises(LogitbankError, match="of 2 classes"):
        require_class_order("import:mine:t", names(100), labels, exchanged[top])


@given(st.integers(2, 40), st.integers(1, 30), st.floats(0, 1), st.integers(0, 1000))
def test_a_teacher_that_is_wrong_at_random_is_none(classes, each, accuracy, seed):
    labels, top = images(classes, each, accuracy, seed)
    require_class_order("import:mine:t", names(classes), labels, top)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_teacher_that_says_one_class_of_everything_is_none(classes):
    labels, _ = images(classes, 50, 1.0)
    require_class_order("import:mine:t", names(classes), labels, np.full(len(labels), classes - 1))


def test_one_image_a_class_proves_nothing():
    labels, top = images(1000, 1, 1.0)
    require_class_order("import:mine:t", names(1000), labels, as_text(1000)[top])


def test_classes_confused_one_way_are_none():
    """Every cat is a dog to it, and every dog one as well."""
    labels, top = images(10, 60, 0.95)
    require_class_order("import:mine:t", names(10), labels, np.where(top == 3, 5, top))


@pytest.mark.parametrize("seed", range(2))
def test_networks_of_random_weights_are_none(seed):
    torch.manual_seed(seed)
    teacher = load_model("cifar:resnet8", classes=10)
    clean_accuracy(teacher, open_dataset("digits", "test").head(200), CacheSettings(views=1))
