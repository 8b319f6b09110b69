"""`bench correct`: that its rows are a real teacher's, and that what it compares does the work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import zarr

from logitbank.jobs.bench.correct import CorrectSettings, correct_lines, measure_correct
from logitbank.jobs.bench.correct_device import DeviceRowWork, measure_device_rows
from logitbank.jobs.bench.correct_rows import RankedCodes, RowWork, two_sorts
from logitbank.jobs.bench.correct_stores import copy_with_zarr, write_ranked_store
from logitbank.jobs.bench.ranked_rows import RankedRows
from logitbank.stores.corrections import CORRECTIONS
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.command import run

FEW = CorrectSettings(megabytes=1, store_samples=40, small_samples=60, rounds=1)
FEW_WORDS = ("--megabytes", 1, "--store-samples", 40, "--small-samples", 60, "--rounds", 2)


@pytest.mark.parametrize(
    ("classes", "wrong", "beyond"), [(100, 0.167, 0.014), (1000, 0.255, 0.047)]
)
def test_ranks_of_the_labels_are_those_that_were_measured(classes, wrong, beyond):
    drawn = RankedRows.draw(8000, classes)
    ranks = (drawn.logits > drawn.logits[np.arange(8000), drawn.target][:, None]).sum(axis=1)
    assert (ranks > 0).mean() == pytest.approx(wrong, abs=0.015) == drawn.wrong
    assert (ranks >= 16).mean() == pytest.approx(beyond, abs=0.007)


def test_two_sorts_in_torch_do_what_sort_does():
    drawn = RankedRows.draw(300, 50)
    codes, top = drawn.logits.copy(), drawn.top.copy()
    CORRECTIONS["sort"](codes, top, drawn.target)
    found = two_sorts(torch.from_numpy(drawn.logits), torch.from_numpy(drawn.target))
    assert np.array_equal(found.numpy(), codes)


@pytest.mark.parametrize("name", ["sort", "swap", "sort_2_threads", "sort_to_new", "swap_to_new"])
def test_every_way_is_given_wrong_rows_and_leaves_them_right(name):
    work = RowWork(RankedCodes.draw(100, "float16", 1))
    for _ in range(2):
        work.restore(name)
        assert (work.here_top[:, 0] == work.rows.target).mean() == 1 - work.rows.wrong
        assert work.ways[name]() == work.rows.codes.nbytes
        assert (work.here_top[:, 0] == work.rows.target).all()


@pytest.mark.parametrize("name", ["sort", "swap", "sort_from_host", "swap_from_host"])
def test_every_way_on_a_device_does_what_the_kernels_do(name):
    work = DeviceRowWork(RankedCodes.draw(100, "float16", 1), torch.device("cpu"))
    expected = work.rows.codes.copy()
    CORRECTIONS[name.partition("_")[0]](expected, work.rows.top.copy(), work.rows.target)
    work.restore(name)
    work.ways[name]()
    found = work.host if name.endswith("host") else work.here.numpy()
    assert found.tobytes() == expected.tobytes()


def test_the_copy_by_zarr_alone_is_a_copy_of_every_array(tmp_path):
    write_ranked_store(tmp_path / "raw.zarr", 70, 20)
    copy_with_zarr(tmp_path / "raw.zarr", tmp_path / "copy.zarr", 70)
    theirs, ours = (
        zarr.open_group(tmp_path / name, mode="r") for name in ("copy.zarr", "raw.zarr")
    )
    for name in ("logits", "top", "view_params", "pixel_crc", "target", "sample_id"):
        assert theirs[name].chunks == ours[name].chunks
        assert np.array_equal(theirs[name][:], ours[name][:])


def test_its_store_is_whole_and_its_labels_are_ranked(tmp_path):
    manifest = write_ranked_store(tmp_path / "raw.zarr", 400, 100)
    assert verify_store(tmp_path / "raw.zarr") == []
    assert 75 < manifest.measured.top1 < 92
    assert Store.open(tmp_path / "raw.zarr").manifest.dataset.samples == 400


def test_rows_at_each_shape_and_stores_of_both_are_measured():
    found = measure_correct(FEW)
    assert [(rows.classes, rows.dtype) for rows in found.rows] == [
        (100, "float16"),
        (100, "float32"),
        (1000, "float16"),
        (1000, "float32"),
    ]
    assert [(store.samples, store.classes) for store in found.stores] == [(40, 1000), (60, 100)]
    for rows in found.rows:
        assert {name: bar.wanted for name, bar in rows.bars.items()} == {
            "swap": 0.8,
            "sort": 0.5,
            "two_sorts_in_torch": 50.0,
        }
    for store in found.stores:
        assert {name: round(bar.wanted, 2) for name, bar in store.bars.items()} == {
            "sort": 0.8,
            "swap": 0.8,
            "load_virtual": 0.91,
            "load_raw_sort": 0.91,
            "load_raw_swap": 0.91,
        }
    text = "\n".join(correct_lines(found))
    assert "a store of 40 x 1,000 in float16: rows/s" in text
    assert "times two sorts in torch" in text


def test_on_a_device_rows_are_measured_against_its_own_copy():
    found = measure_device_rows(100, "float16", 1, 2, "cpu")
    assert set(found.ratios) == {"sort", "swap", "sort_from_host", "swap_from_host"}
    assert found.bars == {}


def test_the_command_prints_one_object_or_lines(capsys):
    assert run("bench", "correct", "--json", *FEW_WORDS) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"machine", "correct"}
    assert found["correct"]["rows"][0]["ratios"]["sort"]["median"] > 0
    assert run("bench", "correct", *FEW_WORDS) == 0
    assert "wanted: 0.8 of copy (swap)" in capsys.readouterr().out
