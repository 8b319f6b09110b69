"""verify names what is bad; --deep holds a store against the dataset and teacher it names."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from logitbank.pipeline.models import load_model
from logitbank.stores.layout import all_units
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter
from tests.jobs.command import done, run


def found(capfd) -> dict:
    return json.loads(capfd.readouterr().out)


def test_a_good_store(raw, capfd):
    done("verify", raw, "--json")
    assert found(capfd) == {"store": str(raw), "good": True, "problems": []}


def test_each_bad_chunk_is_named(raw, tmp_path, capfd):
    store = shutil.copytree(raw, tmp_path / "raw.zarr")
    (store / "top/c/1/2/0").write_bytes(b"")
    (store / "logits/c/2/0/0").unlink()
    assert run("verify", store, "--json") == 1
    assert [problem["key"] for problem in found(capfd)["problems"]] == [
        "top/c/1/2/0",
        "logits/c/2/0/0",
    ]


@pytest.mark.parametrize("correction", [None, "sort", "swap"])
def test_a_true_store_passes_the_deep_check(raw, teacher, tmp_path, correction, capfd):
    store = raw
    if correction is not None:
        store = tmp_path / "corrected.zarr"
        done("correct", raw, "--correction", correction, "--out", store)
    done("verify", store, "--deep", "--dataset", "digits", "--teacher", teacher)
    assert "says the same on a batch of each unit" in capfd.readouterr().out


def resealed(raw, out, **changes):
    """A store whose every checksum holds, with some values of unit (1, 2) changed."""
    store = Store.open(raw)
    writer = StoreWriter.open(out, store.manifest.unsealed(), store.target, store.sample_id)
    for unit in all_units(store.manifest):
        names = ("view_params", "pixel_crc", "top", "logits")
        values = {name: store.read_block(name, unit).copy() for name in names}
        if (unit.view, unit.block) == (1, 2):
            for name, change in changes.items():
                values[name] = change(values[name])
        writer.write_unit(unit, values)
    writer.seal()


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("view_params", lambda values: (values + 1) % 9, "view_params/c/1/2/0"),
        ("pixel_crc", lambda values: values ^ 1, "pixel_crc/c/1/2"),
        ("logits", lambda values: np.roll(values, 1, axis=0), "logits/c/1/2/0"),
    ],
)
def test_a_store_that_lies_under_a_whole_seal(raw, teacher, tmp_path, name, change, key, capfd):
    resealed(raw, tmp_path / "lies.zarr", **{name: change})
    done("verify", tmp_path / "lies.zarr")
    capfd.readouterr()
    words = ["--deep", "--dataset", "digits", "--teacher", teacher, "--json"]
    assert run("verify", tmp_path / "lies.zarr", *words) == 1
    assert [problem["key"] for problem in found(capfd)["problems"]] == [key]


def test_another_teacher_is_named(raw, tmp_path, capfd):
    torch.manual_seed(1)
    torch.save(load_model("cifar:resnet8", classes=10).module.state_dict(), tmp_path / "x.pt")
    words = ["--teacher", f"cifar:resnet8@{tmp_path}/x.pt", "--json"]
    assert run("verify", raw, "--deep", "--dataset", "digits", *words) == 1
    assert "names a teacher with weights" in found(capfd)["problems"][0]["cause"]


def test_another_dataset_is_named_once(raw, tmp_path, shared, capfd):
    dataset = f"hdf5:{shared}/cifar-10-h5"
    assert run("verify", raw, "--deep", "--dataset", dataset, "--json") == 1
    causes = [problem["cause"] for problem in found(capfd)["problems"]]
    assert len(causes) == 2
    assert "differs from the dataset in 160 samples" in causes[0]


def test_deep_needs_a_dataset(raw, capfd):
    assert run("verify", raw, "--deep") == 2
    assert "--deep goes with --dataset SPEC" in capfd.readouterr().err
