"""Images from HDF5."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.hdf5 import hdf5
from logitbank.stores.errors import DatasetError
from tests.pipeline.views.view_examples import random_images


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


@pytest.mark.parametrize("as_bytes", [False, True])
def test_class_names_may_be_the_text_of_a_json_list(tmp_path, as_bytes):
    text = '["plane", "car", "ça"]'
    path = write(tmp_path / "a.h5", classes=np.bytes_(text.encode()) if as_bytes else text)
    assert hdf5(path, "train").classes == ("plane", "car", "ça")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("plane,car,bird", "is one text, 'plane,car,bird', rather than a list of names: file.attr"),
        ("ABC", "is one text, 'ABC'"),
        (b"a\nb\nc", "is one text"),
        (b"\xff\xfe", "is one text"),
        ('{"0": "cat", "1": "dog"}', "is one text"),
        ("", "is one text"),
        (3, "must be a list of names, such as ['cat', 'dog'], found 3"),
        (3.0, "must be a list of names, such as ['cat', 'dog'], found 3.0"),
        (h5py.Empty("f4"), "must be a list of names"),
        (np.array([0.5, 1.5, 2.5]), "a list of names, such as ['cat', 'dog'], found 0.5 among"),
        (np.array([["a"], ["b"], ["c"]], object), "must be a list of names"),
        (np.array([b"a", b"\xff", b"c"]), "a list of names, such as ['cat', 'dog'] in UTF-8"),
        ("[1.5, 2.5]", "must be a list of names"),
        ('["a", "b", "a"]', "has the name 'a' 2 times"),
        (["a", "b"], "target 2 of sample 0 is outside the 2 classes"),
        ("[]", "must be a list of names"),
    ],
)
def test_class_names_of_another_kind_are_named(tmp_path, classes, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = random_images(4), np.array([2, 0, 1, 1])
        is_text = isinstance(classes, np.ndarray) and classes.dtype == object
        dtype = h5py.string_dtype() if is_text else None
        file.attrs.create("classes", classes, dtype=dtype)
    assert message in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([b"cat", b"dog", b"cat", b"dog"]), "number the words, as numpy.unique(labels"),
        (np.array(["cat", "dog"] * 2, object), "number the words, as numpy.unique(labels"),
        (5, "must be whole numbers in one row, found shape ()"),
        (h5py.Empty("i4"), "'labels' is empty"),
        (np.array([[0], [1], [1], [0]]), "write them as one row, labels.reshape(-1)"),
        (np.array([0.0, 1.0, 1.0, 0.0]), "write them as labels.astype('int64')"),
        (np.array([0.5, 1.0, 1.0, 0.0]), "found shape (4,) of float64"),
        (np.array([np.nan, 1.0, 1.0, 0.0]), "found shape (4,) of float64"),
        (np.array([1, 2, 3, 1]), "run from 1 to 3, so class 0 has no samples"),
        (np.array([-1, 0, 1, 1]), "target -1 of sample 0 is below 0, so not a class"),
        (np.array([0, 1, 2**62, 0]), "65,536 are the most a store can hold"),
        (np.array([0, 1, 2**64 - 1, 0], np.uint64), "65,536 are the most a store can hold"),
        (np.array([0, 1, 0]), "4 images but 3 targets"),
    ],
)
def test_labels_of_another_kind_are_named(tmp_path, labels, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = random_images(4)
        is_text = isinstance(labels, np.ndarray) and labels.dtype == object
        file.create_dataset("labels", data=labels, dtype=h5py.string_dtype() if is_text else None)
    assert message in refusal(tmp_path / "a.h5")


def test_numbers_without_names_and_samples_are_pointed_out(tmp_path, caplog):
    path = write(tmp_path / "a.h5", labels=(0, 3, 0, 3), classes=None)
    assert hdf5(path, "train").classes == ("0", "1", "2", "3")
    assert "2 of 4 classes have no samples, the first is class 1" in caplog.records[0].getMessage()


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("layout", ["contiguous", "chunked", "half"])
def test_what_was_never_written_is_not_read_as_zeros(tmp_path, name, layout):
    path = tmp_path / "a.h5"
    content = {"images": random_images(4), "labels": np.array([0, 1, 0, 1])}
    with h5py.File(path, "w") as file:
        for each, values in content.items():
            if each != name:
                file[each] = values
                continue
            chunks = None if layout == "contiguous" else (2, *values.shape[1:])
            made = file.create_dataset(each, values.shape, values.dtype, chunks=chunks)
            if layout == "half":
                made[:2] = values[:2]
    message = refusal(path)
    assert f"'{name}'" in message
    assert "never written and would be read as zeros" in message
    assert ("1 of the 2 chunks" in message) == (layout == "half")


def test_a_claim_of_more_than_there_is_is_refused_before_it_is_read(tmp_path):
    path, shape = tmp_path / "a.h5", (10**12, 32, 32, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", shape, np.uint8, chunks=(10**5, 32, 32, 3))
        file["labels"] = np.array([0, 1])
    assert f"{shape[0]} images but 2 targets" in refusal(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", (2, 10**7, 10**7, 3), np.uint8, chunks=(1, 10, 10, 3))
        file["labels"] = np.array([0, 1])
    assert "chunks of 'images' were never written" in refusal(path)


def test_what_memory_cant_hold_is_refused_by_its_size(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5")
    monkeypatch.setattr("os.sysconf", lambda name: 20)
    assert "takes 768 bytes of memory, but there are 400" in refusal(path)


@pytest.mark.parametrize("how", ["link", "soft link", "file", "virtual"])
def test_images_in_other_files_are_not_followed(tmp_path, how):
    other, path = write(tmp_path / "other.h5"), tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.array([0, 1, 2, 1])
        if how == "link":
            file["images"] = h5py.ExternalLink("other.h5", "/images")
        elif how == "soft link":
            file["there"] = h5py.ExternalLink("other.h5", "/")
            file["images"] = h5py.SoftLink("/there/images")
        elif how == "file":
            outside = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
            (tmp_path / "raw").write_bytes(bytes(768))
            file.create_dataset("images", (4, 8, 8, 3), np.uint8, external=outside)
        else:
            layout = h5py.VirtualLayout((4, 8, 8, 3), np.uint8)
            layout[:] = h5py.VirtualSource(other, "images", (4, 8, 8, 3))
            file.create_virtual_dataset("images", layout)
    message = refusal(path)
    assert f"{path}: 'images' " in message
    assert "copy it into this" in message


def test_a_link_within_the_file_is_followed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/images"], file["labels"] = random_images(4), np.array([0, 1, 0, 1])
        file["images"] = h5py.SoftLink("/deep/images")
    assert np.array_equal(hdf5(tmp_path / "a.h5", "train").images, random_images(4))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 3, 8, 8), np.uint8), "put the channels last, images.transpose(0, 2, 3, 1)"),
        (np.zeros((4, 8, 8, 3), np.uint16), "convert them to 8 bits, (images * (255.0 / WHITE))"),
        (np.zeros((4, 8, 8, 3), np.float32), "convert them to 8 bits, (images * (255.0 / WHITE))"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no images"),
        (np.zeros((), np.uint8), "found () of uint8"),
        (h5py.Empty("u1"), "found None of uint8"),
    ],
)
def test_images_of_another_layout_come_with_the_way_out(tmp_path, images, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = images, np.array([0, 1, 0, 1])
    assert message in refusal(tmp_path / "a.h5")


def refusal(path):
    with pytest.raises(DatasetError) as refused:
        hdf5(path, "train")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


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
