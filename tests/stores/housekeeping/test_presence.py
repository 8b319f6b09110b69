"""Chunks are looked for before they are needed: their presence and their size, nothing more."""

from __future__ import annotations

import os
import shutil

import fsspec
import pytest

from logitbank.stores.chunks import ChunkError
from logitbank.stores.reader import Store
from tests.stores.store_examples import VIEWS

NAMES = ("logits", "view_params", "pixel_crc")


def refusal(store: Store, names=NAMES, views=range(VIEWS)) -> str:
    with pytest.raises(ChunkError) as caught:
        store.require_chunks(names, views)
    return str(caught.value)


def test_a_whole_store_has_them_all(raw):
    store = Store.open(raw)
    assert store.require_chunks(NAMES, range(VIEWS)) == 3 * VIEWS * 3 + 2
    assert store.require_chunks((), ()) == 2
    # A correction reads `top` beside the logits.
    assert store.corrected_by("sort").require_chunks(NAMES, [1, 1]) == 4 * 3 + 2
    assert store.corrected_by("sort").require_chunks(["pixel_crc"], [1]) == 3 + 2


@pytest.mark.parametrize("key", ["logits/c/1/2/0", "view_params/c/1/0/0", "pixel_crc/c/1/1"])
def test_one_that_is_missing_or_cut_is_told_as_reading_tells_it(raw, key):
    chunk, (name, *_) = raw / key, key.split("/")
    for content in (b"", chunk.read_bytes()[:-1], chunk.read_bytes() + b"x", None):
        chunk.unlink()
        if content is not None:
            chunk.write_bytes(content)
        store = Store.open(raw)
        with pytest.raises(ChunkError) as caught:
            store.read_view(name, 1)
        assert refusal(store) == str(caught.value)
        if content is None:
            chunk.touch()


def test_the_others_are_counted(raw):
    shutil.rmtree(raw / "logits/c/1")
    (raw / "pixel_crc/c/2/0").write_bytes(b"short")
    message = refusal(Store.open(raw))
    assert f"{raw}: chunk logits/c/1/0/0 is missing, and 3 more of 29 chunks" in message


def test_what_will_not_be_read_is_not_looked_for(raw):
    shutil.rmtree(raw / "logits/c/1")
    shutil.rmtree(raw / "top/c")
    store = Store.open(raw)
    store.require_chunks(NAMES, [0, 2])
    store.require_chunks(NAMES[1:], range(VIEWS))
    assert "chunk top/c/0/0/0 is missing, and 2 more" in refusal(
        store.corrected_by("sort"), views=[0]
    )


def test_nothing_is_opened_neither_a_pipe_nor_a_folder(raw):
    for key, make in (("logits/c/0/0/0", os.mkfifo), ("logits/c/0/1/0", os.mkdir)):
        (raw / key).unlink()
        make(raw / key)
    os.chmod(raw / "logits/c/0/2/0", 0)
    assert "chunk logits/c/0/0/0 is missing, and 1 more" in refusal(Store.open(raw))


def test_behind_a_url_the_server_is_asked_for_sizes(raw, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.put(str(raw), "/bank/raw.zarr", recursive=True)
    try:
        store = Store.open("memory://bank/raw.zarr")
        with monkeypatch.context() as patched:
            patched.setattr(type(store.files), "get", None)
            assert store.require_chunks(NAMES, range(VIEWS)) == 29
        memory.pipe("/bank/raw.zarr/logits/c/1/0/0", b"short")
        memory.rm("/bank/raw.zarr/logits/c/1/1/0")
        message = refusal(store)
        assert (
            "logits/c/1/0/0 is truncated or foreign (5 bytes, expected 60), and 1 more" in message
        )
    finally:
        memory.rm("/bank", recursive=True)
