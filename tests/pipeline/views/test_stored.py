"""What a store says about its views."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from logitbank.pipeline.views import CifarWeak, StoredViews, ViewRenderer, pixel_crc
from logitbank.stores.errors import StoreError
from logitbank.stores.reader import Store
from tests.pipeline.views.view_examples import SEED, memory_dataset, write_store


@pytest.fixture
def path(dataset, tmp_path):
    return write_store(tmp_path / "raw.zarr", dataset)


def test_it_says_how_views_were_drawn_and_what_their_checksums_are(dataset, path):
    stored = StoredViews(path)
    assert stored.kind == CifarWeak(size=8, pad=1)
    assert (stored.seed, stored.views, stored.samples, stored.size) == (SEED, 3, 40, 8)
    assert np.array_equal(stored.sample_ids, dataset.sample_ids)
    assert np.array_equal(stored.target, dataset.targets)
    renderer = ViewRenderer(dataset, stored.kind)
    for view in (0, 2, 1, 0):
        samples = [39, 3, 17, 3]
        pixels, params = renderer.draw(SEED, view, samples)
        assert np.array_equal(stored.params(view, samples), params)
        assert np.array_equal(stored.pixel_crc(view, samples), pixel_crc(pixels))


def test_the_last_two_views_are_kept(path, monkeypatch):
    reads = []
    read_view = Store.read_view

    def counted(store, name, view, out=None):
        reads.append((name, view))
        return read_view(store, name, view, out)

    monkeypatch.setattr(Store, "read_view", counted)
    stored = StoredViews(path)
    for view in (0, 1, 0, 1):
        stored.params(view, [0])
        stored.pixel_crc(view, [0])
    assert sorted(reads) == [
        ("pixel_crc", 0),
        ("pixel_crc", 1),
        ("view_params", 0),
        ("view_params", 1),
    ]
    stored.params(2, [0])
    stored.params(0, [0])
    assert reads[4:] == [("view_params", 2), ("view_params", 0)]


def test_it_travels_as_the_stores_place(path):
    stored = StoredViews.of(Store.open(path))
    stored.params(0, range(40))
    travelled = pickle.dumps(stored)
    assert len(travelled) < 500
    again = pickle.loads(travelled)
    assert np.array_equal(again.params(1, range(40)), stored.params(1, range(40)))


def test_a_store_that_was_replaced_meanwhile_is_refused(path):
    travelled = pickle.dumps(StoredViews(path))
    shutil.rmtree(path)
    write_store(path, memory_dataset(seed=1))
    with pytest.raises(StoreError, match="was replaced by another store while it was in use"):
        pickle.loads(travelled)


def test_a_damaged_chunk_is_named(path):
    chunk = path / "view_params" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(content)
    stored = StoredViews(path)
    stored.params(0, [0])
    with pytest.raises(StoreError, match="view_params/c/1/0/0"):
        stored.params(1, [0])
