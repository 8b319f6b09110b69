"""Stores of the first release open, verify, and are gone on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.stores.store_examples import logits_of, manifest, open_writer, write_store

STORES = Path(__file__).resolve().parents[1] / "data" / "stores"


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_a_raw_store_is_read_verified_and_found_complete(tmp_path, name):
    path = Path(shutil.copytree(STORES / f"{name}.zarr", tmp_path / "raw.zarr"))
    assert verify_store(path) == []
    store = Store.open(path)
    np.testing.assert_array_equal(store.read_view("logits", 0), logits_of(0).astype(name))
    assert open_writer(path, manifest(views=store.manifest.views, encoding=name)).complete


def test_a_virtual_store_finds_its_parent():
    store = Store.open(STORES / "virtual.zarr")
    top = store.read_view("top", 0)
    np.testing.assert_array_equal(top[:, 0], store.target)
    assert verify_store(STORES / "virtual.zarr") == []


def test_an_unfinished_store_is_finished_and_its_identity_kept_twice_from_now_on(tmp_path):
    path = Path(shutil.copytree(STORES / "unfinished.zarr", tmp_path / "raw.zarr"))
    assert len(open_writer(path, manifest(views=2)).lacking) == 4
    (path / "zarr.json").write_bytes(b"")
    assert len(open_writer(path, manifest(views=2)).lacking) == 4
    assert write_store(path, manifest(views=2)).digest == (
        Store.open(STORES / "float16.zarr").manifest.digest
    )
