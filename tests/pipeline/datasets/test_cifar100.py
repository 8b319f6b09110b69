"""CIFAR-100's original files, read without trusting them."""

from __future__ import annotations

import logging
import os
import pickle

import numpy as np
import pytest
from torchvision.datasets import CIFAR100

from logitbank.pipeline.datasets import has_split, open_dataset
from logitbank.pipeline.datasets.cifar100 import ORIGINAL_MD5, cifar100, restricted_loads
from logitbank.stores.errors import DatasetError

NAMES = ["apple", "bear", "chair"]


def write_pickle(path, content, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def batch(count: int = 6, **changes) -> dict:
    rows = np.random.default_rng(count).integers(0, 256, (count, 3072), np.uint8)
    labels = [n % len(NAMES) for n in range(count)]
    return {"data": rows, "fine_labels": labels, "batch_label": "made up"} | changes


@pytest.fixture
def folder(tmp_path):
    write_pickle(tmp_path / "cifar-100-python" / "train", batch(6))
    write_pickle(tmp_path / "cifar-100-python" / "test", batch(4))
    write_pickle(tmp_path / "cifar-100-python" / "meta", {"fine_label_names": NAMES})
    return tmp_path


def test_rows_are_planes_of_red_green_and_blue(folder):
    dataset = cifar100(folder, "train")
    rows = batch(6)["data"]
    for sample, y, x in [(0, 0, 0), (5, 31, 2), (3, 17, 31)]:
        expected = [rows[sample, plane * 1024 + y * 32 + x] for plane in range(3)]
        assert dataset.images[sample, y, x].tolist() == expected
    assert dataset.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.classes == tuple(NAMES)
    assert dataset.name == "cifar100"
    assert len(cifar100(folder, "test")) == 4


def test_the_folder_may_be_named_itself(folder):
    inner = cifar100(folder / "cifar-100-python", "train")
    assert inner.fingerprint == cifar100(folder, "train").fingerprint
    assert has_split(f"cifar100:{folder}", "test")
    assert has_split(f"cifar100:{folder / 'cifar-100-python'}", "train")
    (folder / "cifar-100-python" / "test").unlink()
    assert not has_split(f"cifar100:{folder}", "test")


def test_files_of_another_md5_are_read_with_a_warning(folder, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        cifar100(folder, "train")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "train is not the original CIFAR-100 file (md5 " in said[0]
    caplog.clear()
    monkeypatch.setitem(ORIGINAL_MD5, "train", said[0].split("md5 ")[1][:32])
    monkeypatch.setitem(ORIGINAL_MD5, "meta", said[1].split("md5 ")[1][:32])
    cifar100(folder, "train")
    assert not caplog.records


def test_the_md5_list_is_torchvisions():
    theirs = dict([*CIFAR100.train_list, *CIFAR100.test_list])
    theirs[CIFAR100.meta["filename"]] = CIFAR100.meta["md5"]
    assert theirs == ORIGINAL_MD5


class Attack:
    def __reduce__(self):
        return os.system, ("echo this must not run",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_calls_something_is_refused(protocol):
    content = pickle.dumps({"data": Attack()}, protocol=protocol)
    with pytest.raises(DatasetError, match=r"here: can't be unpickled: \w+.system is not allowed"):
        restricted_loads(content, "here")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_text_bytes_and_lists_are_admitted(protocol):
    content = {"a": [1, "two", b"\xff3"], "b": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    loaded = restricted_loads(pickle.dumps(content, protocol=protocol), "here")
    assert loaded["a"] == content["a"]
    assert np.array_equal(loaded["b"], content["b"])


def test_a_pickle_of_python_2_is_read_as_latin1():
    # What Python 2 writes for {"data": numpy.array([[200, 7]], "uint8"), "name": "caf\xe9"}.
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01"
        b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\xc8\x07tb"
        b"U\x04nameU\x04caf\xe9u."
    )
    loaded = restricted_loads(content, "here")
    assert loaded["data"].tolist() == [[200, 7]]
    assert loaded["name"] == "café"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fine_labels": [0, 1, 2, 0, 1, 3]}, "target 3 of sample 5 is outside the 3 classes"),
        ({"fine_labels": [0, 1]}, "6 images but 2 targets"),
        ({"data": np.zeros((6, 100), np.uint8)}, "rows of 100 bytes, expected 3072"),
        ({"data": [1, 2]}, "'data' is not an array of uint8 rows"),
        ({"data": np.zeros((6, 3072), np.float32)}, "'data' is not an array of uint8 rows"),
    ],
)
def test_content_that_is_not_cifars_is_named(folder, changes, message):
    path = folder / "cifar-100-python" / "train"
    write_pickle(path, batch(6, **changes))
    with pytest.raises(DatasetError) as refusal:
        cifar100(folder, "train")
    assert str(path) in str(refusal.value)
    assert message in str(refusal.value)


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(DatasetError, match="neither cifar-100-python/train nor train is a file"):
        cifar100(tmp_path / "elsewhere", "train")
    path = folder / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="train: can't be unpickled: "):
        cifar100(folder, "train")
    write_pickle(path, ["no", "dictionary"])
    with pytest.raises(DatasetError, match="train: holds a list"):
        cifar100(folder, "train")
    write_pickle(path, {"labels": []})
    with pytest.raises(DatasetError, match="has no 'data': not a CIFAR-100 file"):
        cifar100(folder, "train")
    (folder / "cifar-100-python" / "meta").unlink()
    with pytest.raises(DatasetError, match="meta: No such file"):
        cifar100(folder, "train")


def test_download_is_torchvisions_and_only_for_what_is_absent(folder, tmp_path, monkeypatch):
    asked = []

    def fetch(root, download):
        asked.append(root)
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", fetch)
    open_dataset(f"cifar100:{folder}", download=True)
    assert not asked
    with pytest.raises(DatasetError, match="the download failed: no network"):
        open_dataset(f"cifar100:{tmp_path / 'new'}", download=True)
    assert asked == [str(tmp_path / "new")]


def test_the_real_files_are_read_as_torchvision_reads_them(shared, monkeypatch, caplog):
    monkeypatch.setattr(CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR100, "_load_meta", lambda self: None)
    for split in ("train", "test"):
        ours = open_dataset(f"cifar100:{shared}", split)
        theirs = CIFAR100(str(shared), train=split == "train")
        assert np.array_equal(ours.images, theirs.data)
        assert ours.targets.tolist() == theirs.targets
        assert len(ours.classes) == 100
