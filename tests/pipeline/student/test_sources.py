"""A store is held against the dataset before anything is learned from it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from logitbank.pipeline.student.sources import check_evaluation_classes, check_store
from logitbank.stores.errors import StoreError, UsageError
from tests.pipeline.student.student_examples import (
    losses_of,
    small_config,
    small_dataset,
    small_store,
    small_teacher,
)

ALL = range(120)


@pytest.fixture(scope="module")
def soft(folder, dataset):
    return small_store(folder / "raw.zarr", dataset, small_teacher(folder), views=1)


@pytest.fixture(scope="module")
def soft_head(folder, dataset):
    """A store of the first 60 samples."""
    return small_store(folder / "head.zarr", dataset.head(60), small_teacher(folder), views=1)


def changed(dataset, **fields):
    return dataclasses.replace(dataset, **fields)


def test_the_dataset_it_was_made_from_passes(dataset, soft):
    assert check_store(soft, dataset, ALL) is dataset
    assert check_store(soft, dataset, range(50)) is dataset


def test_other_classes_name_both_counts(dataset, soft):
    more = changed(dataset, classes=(*dataset.classes, "another"))
    with pytest.raises(StoreError, match="raw.zarr holds 7 classes, but digits train has 8"):
        check_store(soft, more, ALL)


def test_a_smaller_dataset_names_both_counts(dataset, soft):
    with pytest.raises(StoreError, match="holds 120 samples of digits train, but .* has 100"):
        check_store(soft, dataset.head(100), range(100))


def test_another_dataset_names_both_fingerprints(dataset, soft):
    other = small_dataset(seed=9)
    with pytest.raises(StoreError) as caught:
        check_store(soft, other, ALL)
    message = str(caught.value)
    assert dataset.fingerprint[:12] in message
    assert other.fingerprint[:12] in message
    assert "120 of 120 images are different" in message


def test_one_changed_image_is_named(dataset, soft):
    images = dataset.images.copy()
    images[17, 0, 0, 0] ^= 1
    with pytest.raises(StoreError, match="1 of 120 images are different, first sample 17 of small"):
        check_store(soft, changed(dataset, images=images), ALL)


def test_another_order_is_told_apart(dataset, soft):
    order = np.arange(120)
    order[[5, 6]] = 6, 5
    swapped = changed(dataset, images=dataset.images[order], targets=dataset.targets[order])
    with pytest.raises(StoreError, match="the same images in another order, first sample 5 of"):
        check_store(soft, swapped, ALL)


def test_changed_targets_are_told_apart(dataset, soft):
    targets = dataset.targets.copy()
    targets[40] = (targets[40] + 1) % 7
    with pytest.raises(StoreError, match="1 targets differ, first that of sample 40 of small"):
        check_store(soft, changed(dataset, targets=targets), ALL)


def test_a_store_of_the_first_samples_says_which_limit(dataset, soft_head):
    with pytest.raises(StoreError, match="holds the first 60 samples, but 120 .*: use --limit 60"):
        check_store(soft_head, dataset, ALL)
    with pytest.raises(StoreError, match="holds the first 60 samples, but 61 .*: use --limit 60"):
        check_store(soft_head, dataset, range(61))
    assert len(check_store(soft_head, dataset, range(60))) == 60
    assert len(check_store(soft_head, dataset, range(40))) == 60


def test_a_store_of_the_first_samples_says_how_many_may_be_skipped(dataset, soft_head):
    with pytest.raises(StoreError, match="but 80 of .* after 40: use --limit 20"):
        check_store(soft_head, dataset, range(40, 120))
    with pytest.raises(StoreError, match="but 50 of .* after 70: lower --skip"):
        check_store(soft_head, dataset, range(70, 120))
    assert len(check_store(soft_head, dataset, range(40, 60))) == 60


def test_a_limited_run_from_a_store_of_the_first_samples(tmp_path, dataset, soft, soft_head):
    """It learns what it would from a store of them all."""
    config = small_config(limit=60, epochs=1)
    head = losses_of(config, dataset, tmp_path / "head", soft_labels=soft_head)
    assert head == losses_of(config, dataset, tmp_path / "all", soft_labels=soft)


def test_nothing_is_written_where_the_store_does_not_fit(tmp_path, soft):
    with pytest.raises(StoreError):
        losses_of(small_config(), small_dataset(seed=9), tmp_path / "run", soft_labels=soft)
    assert not (tmp_path / "run").exists()


def test_evaluation_classes_must_be_numbered_alike(dataset):
    check_evaluation_classes(dataset, dataset)
    fewer = changed(dataset, classes=dataset.classes[:6], targets=dataset.targets % 6)
    check_evaluation_classes(dataset, fewer)
    renamed = changed(dataset, classes=("class 1", "class 0", *dataset.classes[2:]))
    with pytest.raises(UsageError, match="class 0 is 'class 1' in digits train, but 'class 0' in"):
        check_evaluation_classes(dataset, renamed)
    more = changed(dataset, classes=(*dataset.classes, "class 7"))
    with pytest.raises(UsageError, match="class 7 is 'class 7' .* but 'absent'"):
        check_evaluation_classes(dataset, more)
