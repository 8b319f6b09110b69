"""verify names what is bad; --deep holds a store against the dataset and teacher it names."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from logitbank.pipeline.models import load_model
from logitbank.pipeline.stored_logits import ComparedRows, StoredRows, StoredTeacher, order_cause
from logitbank.stores.layout import all_units
from logitbank.stores.manifest import DatasetIdentity
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words
from tests.stores import store_examples


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
    assert "gives the same logits on a batch of each unit" in capfd.readouterr().out


def resealed(raw, out, **changes):
    """A store whose every checksum holds, with some values of unit (1, 2) changed."""
    store = Store.open(raw)
    writer = StoreWriter.open(out, store.manifest.unsealed(), store.target, store.sample_id)
    for unit in all_units(store.manifest):
        names = ("view_params", "pixel_crc", "top", "logits")
        values = {name: store.read_unit(name, unit).copy() for name in names}
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
        ("logits", lambda values: values * np.float16(1.01), "logits/c/1/2/0"),
        ("top", lambda values: values[:, [1, 0, *range(2, 10)]], "top/c/1/2/0"),
        ("top", lambda values: values[:, [*range(8), 9, 8]], "top/c/1/2/0"),
        ("top", lambda values: values[:, [0, 0, *range(2, 10)]], "top/c/1/2/0"),
        ("top", lambda values: values * 0 + 200, "top/c/1/2/0"),
    ],
)
def test_a_store_that_lies_under_a_whole_seal(raw, teacher, tmp_path, name, change, key, capfd):
    resealed(raw, tmp_path / "lies.zarr", **{name: change})
    done("verify", tmp_path / "lies.zarr")
    capfd.readouterr()
    words = ["--deep", "--dataset", "digits", "--teacher", teacher, "--json"]
    assert run("verify", tmp_path / "lies.zarr", *words) == 1
    assert [problem["key"] for problem in found(capfd)["problems"]] == [key]


def exchanged_in_the_last_row(values):
    """The first two classes of a unit's last row change places in `top`."""
    values[-1, [0, 1]] = values[-1, [1, 0]]
    return values


@pytest.mark.parametrize("is_run", [True, False])
def test_the_order_of_every_row_is_held_against_the_stored_logits(teacher, tmp_path, is_run, capfd):
    """The teacher runs on the first batch of a unit alone, and need not run for this at all."""
    done(*cache_words(teacher, tmp_path / "raw.zarr", batch_size=16))
    resealed(tmp_path / "raw.zarr", tmp_path / "lies.zarr", top=exchanged_in_the_last_row)
    words = ["--deep", "--dataset", "digits", *["--teacher", teacher] * is_run, "--json"]
    done("verify", tmp_path / "raw.zarr", *words)
    capfd.readouterr()
    assert run("verify", tmp_path / "lies.zarr", *words) == 1
    (problem,) = found(capfd)["problems"]
    assert problem["key"] == "top/c/1/2/0"
    assert "not in the order of the stored logits for sample 119" in problem["cause"]


def test_another_teacher_is_named(raw, tmp_path, capfd):
    torch.manual_seed(1)
    torch.save(load_model("cifar:resnet8", classes=10).module.state_dict(), tmp_path / "x.pt")
    words = ["--teacher", f"cifar:resnet8@{tmp_path}/x.pt", "--json"]
    assert run("verify", raw, "--deep", "--dataset", "digits", *words) == 1
    assert "names a teacher with weights" in found(capfd)["problems"][0]["cause"]


def test_another_teachers_rows_are_not_called_bad_files(raw, tmp_path, capfd):
    torch.manual_seed(1)
    torch.save(load_model("cifar:resnet8", classes=10).module.state_dict(), tmp_path / "x.pt")
    words = ["--teacher", f"cifar:resnet8@{tmp_path}/x.pt"]
    assert run("verify", raw, "--deep", "--dataset", "digits", *words, "--json") == 1
    assert [problem["key"] for problem in found(capfd)["problems"]] == ["zarr.json"]
    assert run("verify", raw, "--deep", "--dataset", "digits", *words) == 1
    assert "run the job" not in capfd.readouterr().err


@pytest.mark.parametrize("correction", ["sort", "swap"])
def test_the_order_of_a_corrected_store_is_checked(raw, teacher, tmp_path, correction, capfd):
    done("correct", raw, "--correction", correction, "--out", tmp_path / "corrected.zarr")
    exchanged = {"top": lambda values: values[:, [0, 2, 1, *range(3, 10)]]}
    resealed(tmp_path / "corrected.zarr", tmp_path / "lies.zarr", **exchanged)
    capfd.readouterr()
    words = ["--deep", "--dataset", "digits", "--teacher", teacher, "--json"]
    assert run("verify", tmp_path / "lies.zarr", *words) == 1
    assert [problem["key"] for problem in found(capfd)["problems"]] == ["top/c/1/2/0"]


@pytest.mark.parametrize("recorded", ["float32", "tf32", "amp"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_the_teacher_computes_as_the_manifest_records(raw, teacher, recorded, memory_format):
    manifest = Store.open(raw).manifest
    identity = dataclasses.replace(
        manifest.teacher, precision=recorded, memory_format=memory_format
    )
    model = load_model(teacher, classes=10, pretrained=True)
    again = StoredTeacher(model, dataclasses.replace(manifest, teacher=identity), "cpu").settings
    assert (again.precision.name, again.precision.memory_format) == (recorded, memory_format)
    assert again.batch_size == 64


def test_what_became_equal_in_the_encoding_is_told_apart_by_the_teacher():
    """Two classes that float16 makes one: their order in `top` is the teacher's all the same."""
    exact = np.float32([[1.0, 3.0001, 3.0002, 0.0]])
    made = store_examples.manifest(
        dataset=DatasetIdentity("digits", "train", 1, 4, "f" * 64), top_classes=3, rows_per_chunk=1
    )
    for top, is_wrong in (([2, 1, 0], False), ([1, 2, 0], True)):
        stored = StoredRows({"logits": exact.astype(np.float16)}, np.uint8([top]))
        exactly = exact * [[1, 1, 1.001, 1]]
        found = order_cause(ComparedRows(stored, exactly, np.int32([0]), None, made))
        assert (found is not None) == is_wrong


def test_another_dataset_is_named_once(raw, tmp_path, shared, capfd):
    dataset = f"hdf5:{shared}/cifar-10-h5"
    assert run("verify", raw, "--deep", "--dataset", dataset, "--json") == 1
    causes = [problem["cause"] for problem in found(capfd)["problems"]]
    assert len(causes) == 2
    assert "differs from the dataset in 160 samples" in causes[0]


def test_deep_needs_a_dataset(raw, capfd):
    assert run("verify", raw, "--deep") == 2
    assert "--deep needs --dataset SPEC" in capfd.readouterr().err
