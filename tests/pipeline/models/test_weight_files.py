"""Files that hold no state dict: each is named for what it is, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pathlib
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from logitbank.pipeline.models.weight_files import load_weights
from logitbank.stores.errors import LogitbankError

# torch says of TorchScript that it is not the newest way; its files are still met.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


def torchscript() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def exported() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), buffer)
    return buffer.getvalue()


def numpy_archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.zeros(3))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w.pth", b"weights")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"), io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "it is empty"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (lambda: b"\n<!DOCTYPE html>\n<html></html>", "it is a web page"),
        (lambda: b'{"weight_map": {}}', "it is a JSON text"),
        (lambda: b"\x08\x07\x12\x07pytorch\x1a\x052.0.0", "it is an ONNX file"),
        (lambda: b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
        (lambda: b"\x1f\x8b\x08\x00", "it is an archive: unpack it"),
        (lambda: b"PK\x03\x04 the beginning", "it is cut short"),
        (tarred, "it is an archive: unpack it"),
        (zipped, "it is a ZIP archive: unpack it"),
        (numpy_archive, "archive of NumPy arrays"),
        (torchscript, "TorchScript archive: name a function of yours"),
        (exported, "program of torch.export"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.pt2"])
def test_a_file_of_another_kind_is_named_in_one_line(tmp_path, content, message, name):
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(LogitbankError, match=message) as caught:
        load_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_names_a_file_of_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(LogitbankError, match=r"a folder: name a file of it, such as .*model.safe"):
        load_weights(tmp_path)


def test_the_format_is_the_contents_and_not_the_names(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    state = {"weight": torch.arange(3.0)}
    save_file(state, tmp_path / "pytorch_model.bin")
    torch.save(state, tmp_path / "model.safetensors")
    for path in tmp_path.iterdir():
        assert torch.equal(load_weights(path)["weight"], state["weight"])


def test_numbers_arrays_and_paths_beside_the_weights_are_read(tmp_path):
    beside = {
        "best": np.float64(93.5),
        "epoch": np.int32(7),
        "is_best": np.bool_(True),
        "rng": np.random.RandomState(0).get_state(),
        "args": SimpleNamespace(data=pathlib.Path("data"), lr=0.1),
    }
    torch.save({"state_dict": {"weight": torch.ones(2)}, **beside}, tmp_path / "w.pth")
    found = load_weights(tmp_path / "w.pth")
    assert (found["best"], found["epoch"], found["is_best"]) == (93.5, 7, True)
    assert np.array_equal(found["rng"][1], beside["rng"][1])
    assert (str(found["args"].data), found["args"].lr) == ("data", 0.1)


def test_numbers_that_numpy_1_pickled_are_read(tmp_path):
    torch.save({"w": torch.ones(2), "best": np.float64(93.5)}, tmp_path / "w.pth")
    old = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "w.pth") as new, zipfile.ZipFile(old, "w") as archive:
        for each in new.namelist():
            content = new.read(each).replace(b"cnumpy._core.", b"cnumpy.core.")
            archive.writestr(each, content)
    (tmp_path / "w.pth").write_bytes(old.getvalue())
    assert load_weights(tmp_path / "w.pth")["best"] == 93.5


class Hostile:
    """What would make a folder when it is unpickled."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["beside", "inside"])
def test_nothing_in_a_file_is_run(tmp_path, where):
    hostile = Hostile(tmp_path / "made")
    content = {"model": {"w": torch.ones(1), "x": hostile if where == "inside" else 1}}
    torch.save(content | ({"x": hostile} if where == "beside" else {}), tmp_path / "w.pth")
    with pytest.raises(LogitbankError, match=r"holds more than weights \(posix.mkdir\)"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()
