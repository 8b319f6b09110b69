"""Units written by processes elsewhere: which store they write into, and what is seen of them."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

from logitbank.stores import units
from logitbank.stores.errors import StoreError
from logitbank.stores.layout import all_units
from logitbank.stores.units import UnitWriter, WrittenUnit, remove_partials, require_visible
from tests.stores.store_examples import (
    manifest,
    open_writer,
    sample_id,
    target,
    unit_values,
    write_store,
)


@pytest.fixture
def whole(tmp_path):
    """A store filled by two others' writers, and what they told of their units."""
    writer = open_writer(tmp_path / "whole.zarr")
    others = [UnitWriter.attach(tmp_path / "whole.zarr", writer.manifest) for _ in range(2)]
    told = [
        others[at % 2].write(unit, unit_values(manifest(), unit))
        for at, unit in enumerate(all_units(manifest()))
    ]
    return writer, told


def test_a_store_filled_by_others_is_the_same(tmp_path, whole):
    writer, told = whole
    require_visible(writer.files, writer.manifest, told, patience=0.0)
    for written in told:
        writer.accept(written)
    assert writer.seal().digest == write_store(tmp_path / "plain.zarr").digest


def test_whoever_attaches_sees_the_samples_that_the_store_is_of(whole):
    writer, _ = whole
    labels, ids = UnitWriter.attach(writer.files.root, writer.manifest).samples
    assert np.array_equal(labels, target())
    assert np.array_equal(ids, sample_id())


@pytest.mark.parametrize("name", ["logits", "top", "view_params", "pixel_crc"])
def test_a_chunk_that_is_not_seen_here_is_named(whole, name):
    writer, told = whole
    key = next(path for path in writer.files.list_keys() if path.startswith(f"{name}/c/1/2"))
    writer.files.delete(key)
    with pytest.raises(StoreError, match=f"a worker has written {key}, but .* sees no such file"):
        require_visible(writer.files, writer.manifest, told, patience=0.0)


def test_a_chunk_with_other_bytes_is_named(whole):
    writer, told = whole
    source, other = (writer.files.path(f"logits/c/{view}/0/0") for view in (0, 1))
    other.write_bytes(source.read_bytes())
    with pytest.raises(StoreError, match="logits/c/1/0/0, but .* sees other bytes"):
        require_visible(writer.files, writer.manifest, told, patience=0.0)


def test_a_file_system_that_lags_behind_is_waited_for(whole, monkeypatch):
    monkeypatch.setattr(units, "SECONDS_BETWEEN_LOOKS", 0.01)
    writer, told = whole
    path = writer.files.path("logits/c/2/1/0")
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    late = threading.Thread(target=lambda: (time.sleep(0.1), path.write_bytes(data)))
    late.start()
    require_visible(writer.files, writer.manifest, told, patience=30.0)
    late.join()
    assert path.read_bytes() == data


def test_another_store_under_the_same_path_is_refused(tmp_path):
    writer = open_writer(tmp_path / "store.zarr")
    with pytest.raises(StoreError, match="no store is there"):
        UnitWriter.attach(tmp_path / "nowhere.zarr", writer.manifest)
    later = dataclasses.replace(writer.manifest.provenance, created="2031-01-01T00:00:00+00:00")
    with pytest.raises(StoreError, match="another store is there"):
        UnitWriter.attach(
            tmp_path / "store.zarr", dataclasses.replace(writer.manifest, provenance=later)
        )
    with pytest.raises(StoreError, match=r"views: the store has 3, this job wants 5.*shares"):
        UnitWriter.attach(tmp_path / "store.zarr", manifest(views=5))


def test_what_killed_writers_have_left_is_removed(whole):
    writer, _ = whole
    files = set(writer.files.list_keys())
    for name in ("logits/c/1/2/0.3f.partial", "top/c/0/0/0.77.partial"):
        writer.files.path(name).write_bytes(b"half of it")
    remove_partials(writer.files)
    assert set(writer.files.list_keys()) == files


def test_what_is_told_of_a_unit_is_what_its_files_end_with(whole):
    writer, told = whole
    for written in told:
        assert isinstance(written, WrittenUnit)
        place = f"{written.unit.view}/{written.unit.block}"
        data = writer.files.path(f"logits/c/{place}/0").read_bytes()
        assert int.from_bytes(data[-4:], "little") == written.crcs["logits"]
