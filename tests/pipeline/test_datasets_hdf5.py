"""Images from HDF5."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.hdf5 import hdf5
from logitbank.stores.errors import DatasetError
from tests.pipeline.view_examples import random_images


def write(path, images=None, labels=(2, 0, 1, 1), classes=("a", "b", "ç")):
    with h5py.File(path, "w") as file:
        file["images"] = random_images(4) if images is None else images
        file["labels"] = np.array(labels)
        if classes is not None:
            file.attrs["classes"] = classes
    return path


def test_a_file_holds_images_labels_and_class_names(tmp_path):
    dataset = hdf5(write(tmp_path / "photos.h5"), "train")
    assert np.array_equal(dataset.images, random_images(4))
    assert dataset.targets.tolist() == [2, 0, 1, 1]
    assert dataset.classes == ("a", "b", "ç")
    assert dataset.where(2) == f"sample 2 of {tmp_path / 'photos.h5'}"


def test_class_names_may_be_bytes_or_absent(tmp_path):
    path = write(tmp_path / "a.h5", classes=np.array([b"x", b"y", b"z"]))
    assert hdf5(path, "train").classes == ("x", "y", "z")
    assert hdf5(write(tmp_path / "b.h5", classes=None), "train").classes == ("0", "1", "2")


def test_a_folder_holds_its_splits_and_a_file_is_the_one_asked_for(tmp_path):
    write(tmp_path / "train.h5")
    write(tmp_path / "other.h5", labels=(0, 0, 0, 0))
    assert has_split(f"hdf5:{tmp_path}", "train")
    assert not has_split(f"hdf5:{tmp_path}", "val")
    with pytest.raises(DatasetError, match=r"test.h5 is not a file: the folder has no test split"):
        open_dataset(f"hdf5:{tmp_path}", "test")
    write(tmp_path / "test.h5", labels=(1, 1, 1, 1))
    assert open_dataset(f"hdf5:{tmp_path}", "val").targets.tolist() == [1, 1, 1, 1]
    alone = f"hdf5:{tmp_path / 'other.h5'}"
    assert open_dataset(alone, "test").targets.tolist() == [0, 0, 0, 0]
    assert has_split(alone, "train")
    assert not has_split(alone, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (0, 1, 2, 3)}, "target 3 of sample 3 is outside the 3 classes"),
        ({"labels": (0, 1)}, "4 images but 2 targets"),
        ({"labels": (0.5, 1, 2, 0)}, "whole numbers"),
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "images must be (N, height, width, 3)"),
        ({"images": np.zeros((4, 8, 8, 3))}, "of float64"),
    ],
)
def test_content_of_another_layout_is_named(tmp_path, changes, message):
    path = write(tmp_path / "photos.h5", **changes)
    with pytest.raises(DatasetError) as refusal:
        hdf5(path, "train")
    assert str(path) in str(refusal.value)
    assert message in str(refusal.value)


def test_missing_members_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match="none.h5 is not a file"):
        hdf5(tmp_path / "none.h5", "train")
    path = tmp_path / "photos.h5"
    with h5py.File(path, "w") as file:
        file.create_group("images")
        file["label"] = [1]
    with pytest.raises(DatasetError, match=r"has no dataset 'images' \(found: images, label\)"):
        hdf5(path, "train")
    write(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DatasetError, match="photos.h5: can't be read as HDF5: "):
        hdf5(path, "train")


def test_the_real_file(shared):
    dataset = open_dataset(f"hdf5:{shared / 'cifar-10-h5'}", "test")
    assert dataset.images.shape == (3000, 32, 32, 3)
    assert dataset.classes[:2] == ("airplane", "automobile")
