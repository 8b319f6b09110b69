"""A virtual store is its manifest alone, and reads as the full store that it stands for."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from logitbank import SoftLabels
from logitbank.pipeline.correct import CorrectionTask, corrected_manifest, write_virtual_store
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.corrections import BadRowError
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.layout import all_units
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise, summary_lines
from logitbank.stores.verify import verify_store
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import VIEWS, open_writer, unit_values, write_store

ARRAYS = ("logits", "top", "view_params", "pixel_crc")


@pytest.fixture
def raw(tmp_path) -> Path:
    write_store(tmp_path / "raw.zarr")
    return tmp_path / "raw.zarr"


def full(raw: Path, name: str) -> Store:
    out = raw.with_name(f"full-{name}.zarr")
    fill_store(CorrectionTask.of(Store.open(raw), name, str(out)))
    return Store.open(out)


def virtual(raw: Path, name: str, out: Path | None = None) -> Path:
    out = out or raw.with_name(f"{name}.zarr")
    write_virtual_store(Store.open(raw), name, out)
    return out


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_it_reads_as_the_full_store_in_all_that_a_store_gives(raw, name):
    theirs, ours = full(raw, name), Store.open(virtual(raw, name))
    for array in ARRAYS:
        for view in range(VIEWS):
            np.testing.assert_array_equal(
                ours.read_view(array, view), theirs.read_view(array, view), strict=True
            )
        for unit in all_units(ours.manifest):
            np.testing.assert_array_equal(
                ours.read_unit(array, unit), theirs.read_unit(array, unit), strict=True
            )
    np.testing.assert_array_equal(ours.target, theirs.target)
    np.testing.assert_array_equal(ours.sample_id, theirs.sample_id)
    assert ours.manifest.measured == theirs.manifest.measured
    on_the_fly = Store.open(raw).corrected_by(name)
    for view in range(VIEWS):
        np.testing.assert_array_equal(
            on_the_fly.read_view("logits", view), theirs.read_view("logits", view)
        )


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_slabs_of_all_three_ways_are_bit_identical(raw, name):
    ways = [
        SoftLabels.open(full(raw, name).where),
        SoftLabels.open(virtual(raw, name)),
        SoftLabels.open(raw, correction=name),
    ]
    for epoch in range(2 * VIEWS):
        slabs = [soft.epoch(epoch, seed=3) for soft in ways]
        first = slabs[0][slabs[0].rows]
        assert all(torch.equal(slab[slab.rows], first) for slab in slabs[1:])


def test_it_is_one_small_file_that_plain_zarr_opens(raw):
    path = virtual(raw, "sort")
    assert [file.name for file in path.rglob("*")] == ["zarr.json"]
    attributes = zarr.open_group(path, mode="r").attrs
    assert attributes["correction"]["parent_digest"] == Store.open(raw).manifest.digest
    assert attributes["provenance"]["parent_places"] == ["../raw.zarr", str(raw)]


def test_two_makings_have_one_digest_and_the_second_changes_nothing(raw, tmp_path):
    path = virtual(raw, "sort")
    before = (path / "zarr.json").read_bytes()
    assert write_virtual_store(Store.open(raw), "sort", path)[1] is False
    assert (path / "zarr.json").read_bytes() == before
    elsewhere = virtual(raw, "sort", tmp_path / "elsewhere.zarr")
    digests = {Store.open(each).manifest.digest for each in (path, elsewhere)}
    assert len(digests) == 1
    assert Store.open(virtual(raw, "swap")).manifest.digest not in digests


def test_a_worker_opens_it_again(raw):
    soft = SoftLabels.open(virtual(raw, "sort"))
    views = pickle.loads(pickle.dumps(soft.augmentation))
    np.testing.assert_array_equal(
        views.pixel_crc(1, [0, 3]), soft.augmentation.pixel_crc(1, [0, 3])
    )


def test_a_worker_opens_it_as_it_was_opened_here(raw, tmp_path, monkeypatch):
    path = virtual(raw, "sort", tmp_path / "far" / "sort.zarr")
    raw.rename(tmp_path / "parent.zarr")
    monkeypatch.chdir(tmp_path)
    soft = SoftLabels.open(path, parent="parent.zarr", allow_corrections=["import:a:b"])
    monkeypatch.chdir("/")
    again, views = pickle.loads(pickle.dumps((soft, soft.augmentation)))
    assert again.store.options == views.store.options == soft.store.options
    slab, other = soft.epoch(0), again.epoch(0)
    assert torch.equal(slab[slab.rows], other[other.rows])


# Where the parent is


def test_both_may_move_together(raw, tmp_path):
    virtual(raw, "sort")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("raw.zarr", "sort.zarr"):
        (tmp_path / name).rename(moved / name)
    assert Store.open(moved / "sort.zarr").parent.where == str(moved / "raw.zarr")


def test_it_may_move_alone(raw, tmp_path):
    path = virtual(raw, "sort")
    (tmp_path / "far/away").mkdir(parents=True)
    moved = path.rename(tmp_path / "far/away/sort.zarr")
    assert Store.open(moved).parent.where == str(raw)


def test_a_parent_that_moved_beside_it_is_found(raw, tmp_path):
    (tmp_path / "here").mkdir()
    path = virtual(raw, "sort", tmp_path / "here/sort.zarr")
    raw.rename(tmp_path / "here/raw.zarr")
    assert Store.open(path).parent.where == str(tmp_path / "here/raw.zarr")
    assert Store.open(path).read_view("logits", 0).shape == (10, 7)


def test_a_parent_that_is_gone_is_named_with_where_it_was_looked_for(raw):
    path = virtual(raw, "sort")
    shutil.rmtree(raw)
    with pytest.raises(
        StoreError, match=rf"sort.zarr is virtual .* nothing is at {raw}.* move the"
    ):
        Store.open(path)
    assert [problem.key for problem in verify_store(path)] == ["zarr.json"]
    assert "virtual" in summary_lines(summarise(path))[0]


def test_a_parent_that_changed_is_refused_and_one_that_is_as_it_was_is_found_past_it(raw, tmp_path):
    (tmp_path / "here").mkdir()
    path = virtual(raw, "sort", tmp_path / "here/sort.zarr")
    kept = shutil.copytree(raw, tmp_path / "kept.zarr")
    shutil.rmtree(raw)
    writer = open_writer(raw)
    for unit in writer.missing:
        values = unit_values(writer.manifest, unit)
        writer.write_unit(unit, values | {"logits": values["logits"] + np.float16(1)})
    writer.seal()
    with pytest.raises(StoreError, match=r"raw.zarr has changed, or is another store \(digest"):
        Store.open(path)
    shutil.move(kept, tmp_path / "here/raw.zarr")
    assert Store.open(path).parent.where == str(tmp_path / "here/raw.zarr")


# Damage


def test_damage_of_the_parent_is_met_named_and_verified(raw):
    path = virtual(raw, "sort")
    for key in ("logits/c/1/1/0", "top/c/2/0/0"):
        chunk = raw / key
        chunk.write_bytes(chunk.read_bytes()[::-1])
    store = Store.open(path)
    with pytest.raises(StoreError, match="raw.zarr: chunk logits/c/1/1/0 is damaged"):
        store.read_view("logits", 1)
    with pytest.raises(StoreError, match="raw.zarr: chunk top/c/2/0/0 is damaged"):
        store.read_view("logits", 2)
    keys = [problem.key for problem in verify_store(path)]
    assert keys == [f"{raw}/top/c/2/0/0", f"{raw}/logits/c/1/1/0"]
    assert {problem.parent for problem in verify_store(path)} == {str(raw)}
    assert "sealed as complete" not in summary_lines(summarise(path))[0]
    (raw / "logits/c/1/1/0").unlink()
    assert "8 of 9 units are present" in summary_lines(summarise(path))[0]


def test_an_edited_manifest_is_refused_and_the_job_mends_it(raw):
    path = virtual(raw, "sort")
    digest = Store.open(path).manifest.digest
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["correction"]["name"] = "swap"
    for text in (json.dumps(document), "half a docum"):
        (path / "zarr.json").write_text(text)
        with pytest.raises(StoreError, match=r"zarr\.json"):
            Store.open(path)
        virtual(raw, "sort")
        assert Store.open(path).manifest.digest == digest


def test_stray_files_are_named(raw):
    path = virtual(raw, "sort")
    assert verify_store(path) == []
    (path / "logits").mkdir()
    (path / "logits/zarr.json").write_text("{}")
    assert [problem.key for problem in verify_store(path)] == ["logits/zarr.json"]


def test_a_row_that_can_not_be_corrected_is_named_by_view_and_sample(tmp_path):
    writer = open_writer(tmp_path / "raw.zarr")
    for unit in writer.missing:
        values = unit_values(writer.manifest, unit)
        if (unit.view, unit.block) == (1, 2):
            values["logits"][1, 3] = np.nan
        writer.write_unit(unit, values)
    writer.seal()
    raw = tmp_path / "raw.zarr"
    message = "raw.zarr: view 1 of sample 9 has a NaN"
    with pytest.raises(BadRowError, match=message):
        Store.open(virtual(raw, "sort")).read_view("logits", 1)
    with pytest.raises(BadRowError, match=message):
        full(raw, "sort")


# What is refused


def test_a_folder_of_other_work_is_left_alone(raw):
    path = full(raw, "sort").files.root
    before = (path / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match="holds other work, a store with arrays of its own"):
        virtual(raw, "sort", path)
    assert (path / "zarr.json").read_bytes() == before
    other = virtual(raw, "swap")
    with pytest.raises(StoreError, match="correction.name: the store has 'swap', this job wants"):
        virtual(raw, "sort", other)
    parent = Store.open(raw)
    wanted = corrected_manifest(parent, "swap")
    with pytest.raises(StoreError, match="kind: the store has 'virtual'"):
        StoreWriter.open(other, wanted, parent.target, parent.sample_id)


def test_it_is_not_corrected_again(raw):
    path = virtual(raw, "sort")
    with pytest.raises(UsageError, match="is corrected by sort already"):
        SoftLabels.open(path, correction="swap")
    with pytest.raises(UsageError, match="is corrected by sort already"):
        corrected_manifest(Store.open(path), "swap")
