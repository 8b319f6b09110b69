"""A teacher whose code was edited has the same weights, and is never mixed into its old store."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from logitbank.stores.documents import read_manifest
from logitbank.stores.files import LocalFiles
from logitbank.stores.importing import forget_modules, module_of_spec
from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words

CODE = """
import pathlib
import torch
from torch import nn
from edited_scale import scale

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(48, 10)

    def forward(self, images):
        return self.head(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)) * scale() - 1

def net():
    return Net(), dict(input_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
"""


class Edited:
    """A user's module, and the file that says what its `forward` does now."""

    spec = "import:edited_teacher:net"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "edited_teacher.py").write_text(CODE)
        (folder / "edited_scale.py").write_text(
            "import pathlib\n"
            f"def scale(): return float(pathlib.Path({str(folder / 'scale')!r}).read_text())\n"
        )
        self.scales(1)

    def scales(self, by: float) -> None:
        (self.folder / "scale").write_text(str(by))


@pytest.fixture
def edited(tmp_path, monkeypatch) -> Edited:
    monkeypatch.syspath_prepend(tmp_path)
    yield Edited(tmp_path)
    for name in ("edited_teacher", "edited_scale"):
        sys.modules.pop(name, None)


def refused(capfd, *words: object) -> str:
    capfd.readouterr()
    assert run(*words) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    return line


def test_another_part_with_other_code_is_refused(tmp_path, edited, capfd):
    words = cache_words(edited.spec, tmp_path / "raw.zarr")
    done(*words, "--part", "0/2")
    edited.scales(1.01)
    line = refused(capfd, *words, "--part", "1/2")
    assert "was begun by a teacher with other logits than import:edited_teacher:net" in line
    assert "for sample" in line
    assert "name another --out" in line
    edited.scales(1)
    done(*words, "--part", "1/2")
    Store.open(tmp_path / "raw.zarr")


def test_a_resumed_run_with_other_code_is_refused(tmp_path, edited, capfd):
    words = cache_words(edited.spec, tmp_path / "raw.zarr")
    done(*words)
    (tmp_path / "raw.zarr/logits/c/1/2/0").unlink()
    edited.scales(3)
    assert "with other logits than" in refused(capfd, *words)
    assert not (tmp_path / "raw.zarr/logits/c/1/2/0").exists()
    edited.scales(1)
    done(*words)
    assert Store.open(tmp_path / "raw.zarr").manifest.measured.probe is not None


def test_a_complete_store_of_other_code_is_not_called_complete(tmp_path, edited, capfd):
    words = cache_words(edited.spec, tmp_path / "raw.zarr")
    done(*words)
    edited.scales(2)
    assert "with other logits than" in refused(capfd, *words)
    Store.open(tmp_path / "raw.zarr")


def test_a_corrected_store_keeps_its_teachers_probe(raw, tmp_path):
    done("correct", raw, "--correction", "sort", "--out", tmp_path / "sort.zarr")
    manifests = [read_manifest(LocalFiles(each)) for each in (raw, tmp_path / "sort.zarr")]
    assert manifests[0].measured.probe == manifests[1].measured.probe
    assert np.shape(manifests[0].measured.probe.logits) == (8, 10)


def test_what_is_no_teacher_leaves_no_store(tmp_path, edited, capfd):
    edited.scales(float("nan"))
    assert "not finite" in refused(capfd, *cache_words(edited.spec, tmp_path / "raw.zarr"))
    assert not (tmp_path / "raw.zarr").exists()


def test_forgotten_modules_are_read_again_with_what_they_import(tmp_path, edited):
    first = importlib.import_module("edited_teacher")
    (tmp_path / "edited_scale.py").write_text("def scale(): return 'edited, and longer'\n")
    importlib.invalidate_caches()
    assert importlib.import_module("edited_teacher") is first
    assert sorted(forget_modules(["edited_teacher"])) == ["edited_scale", "edited_teacher"]
    assert importlib.import_module("edited_teacher").scale() == "edited, and longer"


def test_installed_modules_are_kept():
    torch = sys.modules["torch"]
    assert forget_modules(["torch", "json", "logitbank.stores", "not.there", "__main__"]) == []
    assert sys.modules["torch"] is torch


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("import:a.b:make@weights.pth", "a.b"),
        ("import:a:make", "a"),
        ("cifar:resnet8@x", None),
        ("sort", None),
        ("import:", None),
    ],
)
def test_the_module_of_a_spec(spec, module):
    assert module_of_spec(spec) == module
