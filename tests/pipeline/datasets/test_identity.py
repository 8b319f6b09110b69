"""What identifies a dataset, what every kind promises, and specs."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from logitbank.pipeline.datasets import (
    absolute_spec,
    has_split,
    open_dataset,
    weak_augmentation,
)
from logitbank.pipeline.datasets.digits import digits
from logitbank.pipeline.datasets.image_dataset import checked_targets, fingerprint
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.stores.errors import DatasetError, UsageError
from tests.pipeline.views.view_examples import file_dataset, memory_dataset


class Items:
    def __init__(self, dataset):
        self.items = [(dataset.pixels(n), int(dataset.targets[n])) for n in range(len(dataset))]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, sample):
        return self.items[sample]


@pytest.fixture(params=["memory", "files", "items"])
def dataset(request, tmp_path):
    if request.param == "files":
        return file_dataset(tmp_path / "photos")
    memory = memory_dataset(count=12)
    return memory if request.param == "memory" else MapStyleDataset(Items(memory))


def test_every_kind_keeps_the_protocol(dataset):
    assert len(dataset) == 12
    assert dataset.targets.dtype == np.int32
    assert dataset.targets.shape == (12,)
    assert len(dataset.classes) == 3
    assert dataset.sample_ids.dtype == np.uint64
    assert len(set(dataset.sample_ids.tolist())) == 12
    for sample in range(12):
        pixels = dataset.pixels(sample)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.flags.c_contiguous
    assert (dataset.images is None) == (not isinstance(dataset, MemoryDataset))


def test_the_head_of_every_kind_is_its_first_samples(dataset):
    head = dataset.head(5)
    assert len(head) == 5
    assert np.array_equal(head.targets, dataset.targets[:5])
    assert np.array_equal(head.sample_ids, dataset.sample_ids[:5])
    assert np.array_equal(head.pixels(4), dataset.pixels(4))
    assert head.head(2).classes == dataset.classes
    assert head.fingerprint != dataset.fingerprint
    assert dataset.head(100).fingerprint == dataset.fingerprint
    with pytest.raises(UsageError, match="a limit of 0 samples"):
        dataset.head(0)


def test_every_kind_travels_to_workers(dataset):
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint
    assert np.array_equal(again.pixels(3), dataset.pixels(3))


def test_the_id_of_an_image_in_memory_is_the_hash_of_its_bytes():
    dataset = memory_dataset(count=4)
    for sample in range(4):
        digest = hashlib.blake2b(dataset.images[sample].tobytes(), digest_size=8).digest()
        assert int(dataset.sample_ids[sample]) == int.from_bytes(digest, "little")


def test_the_fingerprint_covers_ids_and_targets():
    ids, targets = np.array([1, 2], np.uint64), np.array([3, 4], np.int32)
    content = bytes([1, *[0] * 7, 2, *[0] * 7, 3, 0, 0, 0, 4, 0, 0, 0])
    assert fingerprint(ids, targets) == hashlib.sha256(content).hexdigest()
    dataset = memory_dataset(count=4)
    order = [1, 0, 2, 3]
    others = [
        dataclasses.replace(dataset, images=dataset.images[order]),
        dataclasses.replace(dataset, targets=dataset.targets[order]),
    ]
    assert len({each.fingerprint for each in [dataset, *others]}) == 3


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1, 3], "target 3 of sample 2 is outside the 3 classes .0 to 2.; 1 such targets"),
        ([0, -1, -1], "target -1 of sample 1 is outside"),
        ([0, 1], "3 images but 2 targets"),
        ([0.0, 1.0, 2.0], "whole numbers in one row, found shape .3,. of float64"),
        ([[0], [1], [2]], "found shape .3, 1. of int64"),
    ],
)
def test_targets_that_dont_fit_are_named(targets, message):
    with pytest.raises(DatasetError, match=f"here: .*{message}"):
        checked_targets(np.array(targets), 3, 3, "here")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), r"found \(2, 4, 4\) of uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"found \(2, 3, 4, 4\) of uint8"),
        (np.zeros((2, 4, 4, 3), np.float32), r"found \(2, 4, 4, 3\) of float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no images"),
    ],
)
def test_images_of_another_layout_are_refused(images, message):
    with pytest.raises(DatasetError, match=f"my.h5: .*{message}"):
        MemoryDataset("hdf5", "train", images, np.zeros(len(images), int), ("a",), "my.h5")


def test_digits_are_scikit_learns_enlarged_fourfold():
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1438, 359)
    bundle = load_digits()
    for place in range(0, 1797, 13):
        split, sample = (test, place // 5) if place % 5 == 4 else (train, place - (place + 1) // 5)
        assert split.targets[sample] == bundle.target[place]
        image = split.pixels(sample)
        assert image.shape == (32, 32, 3)
        for y, x in [(0, 0), (13, 22), (31, 31), (17, 8)]:
            value = int(bundle.images[place][y // 4][x // 4])
            assert image[y, x].tolist() == [value * 255 // 16] * 3
    assert train.classes == tuple("0123456789")
    assert train.where(17) == "sample 17 of digits train"


def test_val_is_a_synonym_of_test():
    assert open_dataset("digits", "val").split == "test"
    assert open_dataset("digits", "val").fingerprint == open_dataset("digits", "test").fingerprint
    assert has_split("digits", "val")


@pytest.mark.parametrize(
    ("spec", "split", "message"),
    [
        ("cifar10:x", "train", "unknown dataset 'cifar10': did you mean 'cifar100'"),
        ("digits", "valid", "unknown split 'valid': did you mean 'val'"),
        ("cifar100", "train", "is missing its location: cifar100:DIR"),
        ("hdf5:", "train", "is missing its location: hdf5:FILE|DIR"),
        ("digits:here", "train", "digits takes nothing after its name"),
    ],
)
def test_a_spec_that_cant_be_meant_is_refused(spec, split, message):
    for ask in (open_dataset, has_split):
        with pytest.raises(UsageError) as refusal:
            ask(spec, split)
        assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("cifar100", ""), ("hdf5", ""), ("imagefolder", ""), ("imagenet", "@text")]
)
def test_a_path_may_begin_at_home(tmp_path, monkeypatch, kind, suffix):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute_spec(f"{kind}:~/data{suffix}") == f"{kind}:{tmp_path}/data{suffix}"
    with pytest.raises(DatasetError, match=str(tmp_path / "data")):
        open_dataset(f"{kind}:~/data{suffix}")
    assert not has_split(f"{kind}:~/data{suffix}", "train")
    for ask in (open_dataset, absolute_spec):
        with pytest.raises(UsageError, match="~nobody-here/data: Could not determine home"):
            ask(f"{kind}:~nobody-here/data{suffix}")


def test_only_cifar100_can_be_downloaded(tmp_path):
    with pytest.raises(UsageError, match="only cifar100 can be downloaded"):
        open_dataset(f"imagenet:{tmp_path}", download=True)


def test_square_images_in_memory_are_augmented_as_cifar(tmp_path):
    assert weak_augmentation(memory_dataset()) == "cifar-weak"
    assert weak_augmentation(file_dataset(tmp_path / "photos")) == "imagenet-weak"
    wide = MemoryDataset("hdf5", "train", np.zeros((1, 4, 5, 3), np.uint8), [0], ("a",), "wide")
    assert weak_augmentation(wide) == "imagenet-weak"


def test_datasets_need_no_torch():
    loaded = "import sys; import logitbank.pipeline.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
