"""A store behind a URL: read as any other place is, never written, and no password is printed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from logitbank.stores.errors import StoreError
from logitbank.stores.files import UNKNOWN_SIZE, FileError, Files, ObjectStoreFiles, open_files
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise
from logitbank.stores.verify import verify_store
from logitbank.stores.virtual import virtual_manifest
from logitbank.stores.writer import StoreWriter
from tests.stores.files.test_interface import CONTENTS, Reading, corrected, opened_writer
from tests.stores.store_examples import manifest, sample_id, target, write_store

WRITES: dict[str, Callable[[Files], object]] = {
    "put": lambda files: files.put("a", [b""]),
    "put_all": lambda files: files.put_all({}),
    "put_if_absent": lambda files: files.put_if_absent("a", [b""]),
    "delete": lambda files: files.delete("zarr.json"),
    "is_free": lambda files: files.is_free(),
    "create": lambda files: files.create({}),
    "remove_leftovers": lambda files: files.remove_leftovers(),
    "sealing": lambda files: files.sealing(),
    "wait_for_writers": lambda files: files.wait_for_writers(),
}


class TestUrl(Reading):
    @pytest.fixture
    def filled(self):
        memory = fsspec.filesystem("memory")
        for key, content in CONTENTS.items():
            memory.pipe(f"/bank/store.zarr/{key}", content)
        yield open_files("memory://bank/store.zarr")
        memory.rm("/bank", recursive=True)

    @pytest.mark.parametrize("write", WRITES)
    def test_it_is_only_read(self, filled, write):
        with pytest.raises(StoreError, match="is a URL, and so far only local folders are written"):
            WRITES[write](filled.as_durable())
        filled.sync(["b"])
        assert filled.free_bytes() is None
        assert filled.get("zarr.json") == b"{}"

    def test_a_store_is_not_made_or_corrected_there(self, filled):
        with pytest.raises(StoreError, match="memory://bank/store.zarr is a URL, and so far"):
            opened_writer(filled)
        with pytest.raises(StoreError, match="memory://bank/new.zarr is a URL, and so far"):
            StoreWriter.open("memory://bank/new.zarr", manifest(), target(), sample_id())

    def test_it_is_passed_to_other_processes(self, filled):
        assert pickle.loads(pickle.dumps(filled)).get("b") == CONTENTS["b"]

    def test_a_server_that_tells_no_size(self, filled, monkeypatch):
        async def info(path: str) -> dict:
            return {"size": None}

        monkeypatch.setattr(filled._store.fs, "_info", info)
        assert list(filled.sizes(["b"])) == [UNKNOWN_SIZE]

    @pytest.mark.parametrize(
        "error", [TimeoutError(), ValueError("no\nbucket"), OSError(5, "gone")]
    )
    def test_what_fails_on_the_way_is_one_line(self, filled, monkeypatch, error):
        async def fail(path: str, **settings) -> dict:
            raise error

        for name in ("_info", "_cat_file"):
            monkeypatch.setattr(filled._store.fs, name, fail)
        told = f"memory://bank/store.zarr: b can't be fetched: {type(error).__name__}"
        uses = [filled.get, filled.exists, lambda key: filled.sizes([key])]
        uses += [lambda key: filled.open(key).__enter__()]
        for use in uses:
            with pytest.raises(FileError) as caught:
                use("b")
            assert str(caught.value).startswith(told)
            assert "\n" not in str(caught.value)

    def test_a_password_is_never_printed(self):
        """Nobody listens at port 1."""
        url = "http://me:secret@127.0.0.1:1/raw.zarr"
        files = ObjectStoreFiles(url)
        assert files.location == url
        for look in (Store.open, verify_store, summarise):
            with pytest.raises(FileError) as caught:
                look(url)
            told = str(caught.value)
            assert told.startswith("http://127.0.0.1:1/raw.zarr: zarr.json can't be fetched: ")
            assert "secret" not in told
            assert "\n" not in told
        with pytest.raises(StoreError) as refused:
            files.delete("zarr.json")
        assert "secret" not in str(refused.value)


def test_a_password_is_not_written_into_a_virtual_store(tmp_path):
    wanted = virtual_manifest(
        corrected(write_store(tmp_path / "raw.zarr")), "s3://me:secret@bucket/raw.zarr", Path("v")
    )
    assert wanted.provenance.parent_places == ("s3://bucket/raw.zarr",)
