"""Files appear whole or not at all, and a store can be read from afar."""

from __future__ import annotations

import errno
import os

import fsspec
import numpy as np
import pytest

from logitbank.stores.checksum import crc32c
from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.reader import Store
from tests.stores.store_examples import logits_of, write_store


def test_crc32c_of_the_rfc_and_in_pieces():
    """RFC 3720, B.4: 32 bytes of zeros; and any cut gives the same."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    data = np.arange(100, dtype=np.uint8)
    assert crc32c(data[40:], crc32c(data[:40])) == crc32c(memoryview(data.tobytes()))


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    files = LocalFiles(tmp_path)
    files.put("a/b", [b"old"])

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="the disk is full: .*a/b was not written"):
        files.put("a/b", [b"new"])
    assert list(files.list_keys()) == ["a/b"]
    assert files.get("a/b") == b"old"


def test_short_writes_are_completed(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    LocalFiles(tmp_path).put("key", [b"12345678", b"90"])
    assert (tmp_path / "key").read_bytes() == b"1234567890"


def test_a_store_behind_a_url_reads_like_a_local_one(tmp_path):
    manifest = write_store(tmp_path / "raw.zarr")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "raw.zarr"), "/bank/raw.zarr", recursive=True)
    try:
        store = Store.open("memory://bank/raw.zarr")
        assert store.manifest == manifest
        np.testing.assert_array_equal(store.read_view("logits", 1), logits_of(1).astype("float16"))
        memory.pipe("/bank/raw.zarr/logits/c/1/0/0", b"short")
        with pytest.raises(StoreError, match="logits/c/1/0/0 is truncated or foreign"):
            store.read_view("logits", 1)
    finally:
        memory.rm("/bank", recursive=True)


def test_no_store_there(tmp_path):
    with pytest.raises(StoreError, match="there is no store at .*absent"):
        Store.open(tmp_path / "absent.zarr")
