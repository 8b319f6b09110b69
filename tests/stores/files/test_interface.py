"""What every place for bytes does, one suite for all of them, and whole stores in each."""

from __future__ import annotations

import dataclasses
import pickle
import threading

import numpy as np
import pytest

from logitbank.stores.documents import read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import (
    FILE,
    AbsentError,
    FileError,
    Files,
    LocalFiles,
    MemoryFiles,
    OddFileError,
    files_at,
    open_files,
)
from logitbank.stores.layout import all_units
from logitbank.stores.manifest import CorrectionIdentity
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise
from logitbank.stores.verify import verify_store
from logitbank.stores.virtual import virtual_manifest, write_virtual
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import (
    VIEWS,
    manifest,
    sample_id,
    target,
    unit_values,
    write_store,
)

CONTENTS = {"zarr.json": b"{}", "a/c/0/0": b"0123456789", "a/c/0/1": b"", "b": bytes(1000)}
WHOLE = 29
"""The chunks of a store of the examples."""


class Reading:
    """What a place that is read answers. Subclasses say how to make one that holds some files."""

    @pytest.fixture
    def filled(self) -> Files:
        raise NotImplementedError

    def test_a_file_is_read_whole(self, filled):
        assert {key: filled.get(key) for key in CONTENTS} == CONTENTS
        assert filled.get("a/c/0/2") is None
        assert filled.get("a/c/0/0", 10) == b"0123456789"

    def test_a_file_that_is_larger_than_it_may_be_is_odd(self, filled):
        with pytest.raises(OddFileError, match="a/c/0/0 is too large .10 bytes, expected at most"):
            filled.get("a/c/0/0", 9)

    def test_a_file_is_read_into_memory_piece_by_piece(self, filled):
        pieces = [np.full(size, 255, np.uint8) for size in (3, 0, 4, 6)]
        with filled.open("a/c/0/0") as file:
            assert file.size == 10
            assert file.read_into(pieces[:1]) == 3
            assert file.read_into(pieces[1:]) == 7
        assert b"".join(map(bytes, pieces)) == b"0123456789" + 3 * b"\xff"
        with filled.open("a/c/0/0") as file:
            assert (file.tail(4), file.tail(0), file.tail(99)) == (b"6789", b"", b"0123456789")
        with pytest.raises(FileNotFoundError), filled.open("a/c/0/2"):
            pass

    def test_sizes_and_presence_are_told_without_reading(self, filled, monkeypatch):
        monkeypatch.setattr(type(filled), "get", None)
        assert list(filled.sizes(["b", "a/c/9", "a/c/0/1"])) == [1000, None, 0]
        assert [filled.exists(key) for key in ("b", "a/c/9", "a/c/0/1")] == [True, False, True]
        assert filled.exists("b", fresh=True)
        assert not filled.exists("z/c", fresh=True)

    def test_what_is_there_is_listed_or_said_to_be_unknown(self, filled):
        entries, names = filled.list(), filled.names()
        assert (entries is None) == (names is None)
        if entries is None:
            assert list(filled.list_keys()) == []
            return
        files = {entry.key: entry.size for entry in entries if entry.kind == FILE}
        assert files == {key: len(content) for key, content in CONTENTS.items()}
        assert sorted(filled.list_keys()) == sorted(CONTENTS)
        assert names == ["a", "b", "zarr.json"]

    def test_it_is_opened_once_and_passed_on(self, filled):
        assert open_files(filled) is files_at(filled) is filled
        assert filled.where


class Writing(Reading):
    """What a place that is written answers too. Subclasses say how to make an empty one."""

    @pytest.fixture
    def files(self) -> Files:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, files) -> Files:
        files.put_all({key: [content] for key, content in CONTENTS.items()})
        return files

    def test_a_file_is_replaced_whole(self, files):
        files.put("a/b", [b"old", np.arange(3, dtype=np.int32)])
        assert files.get("a/b") == b"old" + np.arange(3, dtype=np.int32).tobytes()
        files.as_durable().put("a/b", [b"new"])
        assert files.get("a/b") == b"new"
        assert list(files.list_keys()) == ["a/b"]
        files.sync(["a/b"])

    def test_of_many_that_put_a_file_if_there_is_none_one_does(self, files):
        won = []

        def put(number: int) -> None:
            if files.put_if_absent("new/lock", [f"{number}".encode()]):
                won.append(number)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (number,) = won
        assert files.get("new/lock") == f"{number}".encode()
        assert not files.as_durable().put_if_absent("new/lock", [b"late"])
        assert list(files.list_keys()) == ["new/lock"]

    def test_an_empty_file_is_there(self, files):
        assert files.put_if_absent("empty", [])
        assert not files.put_if_absent("empty", [])

    def test_what_is_removed_is_gone_and_may_be_gone_already(self, filled):
        for _ in range(2):
            filled.delete("a/c/0/0")
            filled.delete("a/c/0/0/1")
        assert filled.get("a/c/0/0") is None
        assert filled.get("a/c/0/1") == b""

    def test_a_store_is_begun_where_nothing_is(self, files):
        assert files.is_free()
        files.create({"zarr.json": [b"{}"], "a/b": [b"1"]})
        assert not files.is_free()
        files.require_exists()
        # Whoever comes second finds the first one's.
        files.create({"zarr.json": [b"[]"], "c": [b"2"]})
        assert {key: files.get(key) for key in files.list_keys()} == {
            "zarr.json": b"{}",
            "a/b": b"1",
        }
        files.remove_leftovers()
        assert sorted(files.list_keys()) == ["a/b", "zarr.json"]

    def test_room_is_told_or_unknown(self, files):
        free = files.free_bytes()
        assert free is None or free > 0

    def test_one_at_a_time_seals(self, filled):
        inside, order = threading.Event(), []

        def second() -> None:
            inside.wait(60)
            with filled.sealing():
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        with filled.sealing():
            inside.set()
            thread.join(0.2)
            order.append("first")
        thread.join(60)
        assert order == ["first", "second"]

    def test_nobody_is_waited_for_where_nobody_writes(self, filled):
        told: list[int] = []
        filled.wait_for_writers(waiting=told.append)
        assert told == []

    # ---- A whole store

    def test_a_store_is_begun_resumed_sealed_and_read(self, files, tmp_path):
        assert is_no_store(files)
        writer = opened_writer(files)
        for unit in writer.missing[:4]:
            writer.write_unit(unit, unit_values(writer.manifest, unit))
        with pytest.raises(StoreError, match="is incomplete"):
            Store.open(files)
        assert len(opened_writer(files).missing) == 5
        sealed = completed(files)
        assert opened_writer(files).complete
        write_store(tmp_path / "other.zarr")
        other = Store.open(tmp_path / "other.zarr")
        assert sealed.digest == other.manifest.digest
        store = Store.open(files)
        assert store.require_chunks(("logits", "view_params", "pixel_crc"), range(VIEWS)) == WHOLE
        for name in ("logits", "top", "view_params", "pixel_crc"):
            for view in range(VIEWS):
                np.testing.assert_array_equal(
                    store.read_view(name, view), other.read_view(name, view)
                )

    def test_damage_is_found_and_mended(self, files):
        sealed = completed(files)
        assert verify_store(files) == []
        chunk = files.get("logits/c/1/0/0")
        files.put("logits/c/1/0/0", [bytes(60)])
        files.delete("top/c/2/1/0")
        files.put("logits/c/7/0/0", [b"stray"])
        keys = {"logits/c/1/0/0", "top/c/2/1/0", "logits/c/7/0/0"}
        assert {problem.key for problem in verify_store(files)} == keys
        with pytest.raises(StoreError, match="logits/c/1/0/0 is damaged"):
            Store.open(files).read_view("logits", 1)
        assert set(opened_writer(files).mended) >= keys
        assert completed(files).digest == sealed.digest
        assert verify_store(files) == []
        assert files.get("logits/c/1/0/0") == chunk

    def test_a_store_is_corrected_and_summarised(self, files, tmp_path):
        raw = write_store(tmp_path / "raw.zarr")
        parent = Store.open(tmp_path / "raw.zarr").corrected_by("sort")
        wanted = corrected(raw)
        writer = opened_writer(files, wanted)
        for unit in all_units(wanted):
            names = ("view_params", "pixel_crc", "top", "logits")
            writer.write_unit(unit, {name: parent.read_unit(name, unit) for name in names})
        writer.seal()
        store = Store.open(files)
        for view in range(VIEWS):
            np.testing.assert_array_equal(
                store.read_view("logits", view), parent.read_view("logits", view)
            )
        summary = summarise(files)
        assert summary.units_present == 9
        assert summary.stored_bytes == sum(filter(None, files.sizes(list(files.list_keys()))))

    def test_a_virtual_store_finds_its_parent_where_it_is_named(self, files, tmp_path):
        raw = write_store(tmp_path / "raw.zarr")
        wanted = virtual_manifest(corrected(raw), str(tmp_path / "raw.zarr"), files.location)
        assert [written for _, written in (write_virtual(files, wanted) for _ in "ab")] == [
            True,
            False,
        ]
        store = Store.open(files, parent=tmp_path / "raw.zarr")
        expected = Store.open(tmp_path / "raw.zarr").corrected_by("sort")
        np.testing.assert_array_equal(store.read_view("top", 1), expected.read_view("top", 1))


def opened_writer(files: Files, wanted=None) -> StoreWriter:
    return StoreWriter.open(files, wanted or manifest(), target(), sample_id())


def completed(files: Files):
    """Compute what a store lacks and seal it."""
    writer = opened_writer(files)
    for unit in writer.missing:
        writer.write_unit(unit, unit_values(writer.manifest, unit))
    return writer.seal()


def corrected(raw):
    """The manifest of a store that is corrected by sorting."""
    correction = CorrectionIdentity("sort", str(raw.digest), None)
    return dataclasses.replace(raw.unsealed(), kind="corrected", correction=correction)


def is_no_store(files: Files) -> bool:
    with pytest.raises(StoreError) as caught:
        read_manifest(files)
    return "has no zarr.json" in str(caught.value)


class TestLocal(Writing):
    @pytest.fixture
    def files(self, tmp_path) -> Files:
        return LocalFiles(tmp_path / "new" / "store.zarr")

    def test_nothing_there_is_an_error_of_its_own(self, files):
        with pytest.raises(AbsentError, match="there is no store at .*: no such folder"):
            files.require_exists()

    def test_a_folder_in_the_way_is_kept(self, files):
        files.put("a/b", [b"1"])
        with pytest.raises(StoreError, match="is a folder with files in it"):
            files.delete("a")
        assert not files.put_if_absent("a", [b"2"])
        assert files.exists("a")

    def test_a_failed_conditional_put_leaves_nothing(self, files, monkeypatch):
        files.put("a/b", [b"1"])
        monkeypatch.setattr("os.link", refuse)
        with pytest.raises(StoreError, match="a/c can't be written: Permission denied"):
            files.put_if_absent("a/c", [b"2"])
        assert [entry.key for entry in files.list()] == ["a", "a/b"]

    def test_a_file_that_can_not_be_looked_for_is_named(self, files, monkeypatch):
        monkeypatch.setattr("os.listdir", refuse)
        with pytest.raises(FileError, match="a can't be accessed: Permission denied"):
            files.exists("a", fresh=True)


def refuse(*arguments) -> None:
    raise PermissionError(13, "Permission denied")


class TestMemory(Writing):
    @pytest.fixture
    def files(self) -> Files:
        return MemoryFiles("store.zarr")

    def test_no_other_process_is_sent_there(self, files):
        with pytest.raises(StoreError, match="lies in the memory of one process"):
            pickle.dumps(files)
        with pytest.raises(StoreError, match="this-memory://store.zarr can't be opened"):
            open_files(files.location)
