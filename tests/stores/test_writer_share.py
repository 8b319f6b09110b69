"""A writer with a share: it looks at its own units, and other processes are at work beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitbank.stores import recovery
from logitbank.stores import writer as module
from logitbank.stores.errors import StoreError
from logitbank.stores.layout import Unit, all_units
from logitbank.stores.reader import Store
from logitbank.stores.seal import CrcTables
from logitbank.stores.verify import verify_store
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import (
    manifest,
    sample_id,
    target,
    unit_values,
    write_store,
)
from tests.stores.test_damage import files_of

UNITS = all_units(manifest())


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "raw.zarr"
    write_store(path)
    return path


def open_share(path: Path, share: list[Unit] | None) -> StoreWriter:
    return StoreWriter.open(path, manifest(), target(), sample_id(), share)


def write(writer: StoreWriter) -> None:
    for unit in writer.missing:
        writer.write_unit(unit, unit_values(writer.manifest, unit))


def same_chunks(path: Path, sealed: Path) -> None:
    assert verify_store(path) == []
    found, wanted = files_of(path), files_of(sealed)
    found.pop("zarr.json"), wanted.pop("zarr.json")
    assert found == wanted


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3), min_size=9, max_size=9), st.permutations(range(4)))
def test_any_shares_in_any_order_make_the_same_store(tmp_path_factory, sealed, owners, order):
    path = tmp_path_factory.mktemp("shares") / "raw.zarr"
    for each in order:
        share = [unit for unit, owner in zip(UNITS, owners, strict=True) if owner == each]
        writer = open_share(path, share)
        assert writer.missing == share
        assert not writer.complete
        write(writer)
    whole = open_share(path, None)
    assert whole.missing == []
    assert whole.seal().digest == Store.open(sealed).manifest.digest
    same_chunks(path, sealed)


def test_shares_that_overlap_do_the_same_work_twice_and_no_harm(tmp_path, sealed):
    path = tmp_path / "raw.zarr"
    one, other = (open_share(path, UNITS[first : first + 6]) for first in (0, 3))
    write(other)
    write(one)
    open_share(path, None).seal()
    same_chunks(path, sealed)


def test_the_units_of_others_are_not_looked_at(tmp_path, sealed):
    path = Path(shutil.copytree(sealed, tmp_path / "raw.zarr"))
    (path / "logits/c/2/2/0").write_bytes(b"torn")
    assert open_share(path, UNITS[:8]).complete
    assert open_share(path, UNITS[8:]).missing == UNITS[8:]
    assert not (path / "logits/c/2/2/0").exists()


def test_no_temporary_file_is_removed(tmp_path):
    path = tmp_path / "raw.zarr"
    open_share(path, UNITS[:4])
    temporary = [path / "logits/c/0/0/0.x.partial", path / "top/c/2/2/0.y.partial"]
    for file in temporary:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half")
    open_share(path, UNITS[:4])
    assert all(file.exists() for file in temporary)
    open_share(path, None)
    assert not any(file.exists() for file in temporary)


def test_a_share_never_seals(tmp_path):
    writer = open_share(tmp_path / "raw.zarr", UNITS)
    write(writer)
    with pytest.raises(AssertionError, match="a share is never the whole store"):
        writer.seal()


def test_damaged_tables_are_not_for_a_part_to_mend(tmp_path, sealed):
    path = Path(shutil.copytree(sealed, tmp_path / "raw.zarr"))
    (path / "crc/logits/c/0/0/0").write_bytes(b"torn")
    with pytest.raises(StoreError, match="run the job once without --part"):
        open_share(path, UNITS[:4])
    open_share(path, None).seal()
    same_chunks(path, sealed)


def test_a_share_opened_while_another_process_seals(tmp_path, sealed, monkeypatch):
    """The tables are there and the manifest is not, or it is there by now: both are no damage."""
    path = tmp_path / "raw.zarr"
    write(open_share(path, UNITS))
    write_manifest = StoreWriter._put_manifest

    def part_comes(writer: StoreWriter, wanted) -> None:
        assert open_share(path, UNITS[:4]).missing == []
        write_manifest(writer, wanted)

    with monkeypatch.context() as context:
        context.setattr(StoreWriter, "_put_manifest", part_comes)
        whole = open_share(path, None)
        whole.seal()
    same_chunks(path, sealed)


def test_a_store_that_is_sealed_between_two_looks_at_it(tmp_path, sealed, monkeypatch):
    path = tmp_path / "raw.zarr"
    write(open_share(path, UNITS))
    trusted_tables = recovery._trusted_tables

    def sealed_after(*arguments) -> tuple[CrcTables, bool]:
        found = trusted_tables(*arguments)
        monkeypatch.setattr(recovery, "_trusted_tables", trusted_tables)
        open_share(path, None).seal()
        return found

    monkeypatch.setattr(recovery, "_trusted_tables", sealed_after)
    assert open_share(path, UNITS[:4]).missing == []
    same_chunks(path, sealed)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files have no names here")
def test_what_a_share_writes_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    """Each chunk is flushed before it gets its name, and its folder after."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        events.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def renamed(source, destination) -> None:
        events.append(f"rename {Path(source).name}")
        replace(source, destination)

    writer = open_share(tmp_path / "raw.zarr", UNITS[:1])
    # The folders that are made for the first of a view's chunks are another test's.
    writer.write_unit(UNITS[1], unit_values(writer.manifest, UNITS[1]))
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    writer.write_unit(UNITS[1], unit_values(writer.manifest, UNITS[1]))
    assert len(events) == 12
    for file, name, folder in zip(events[::3], events[1::3], events[2::3], strict=True):
        assert file.startswith(("flush 0.", "flush 1."))
        assert file.endswith(".partial")
        assert name == file.replace("flush", "rename")
        assert folder in ("flush 0", "flush 1")


def test_a_layout_that_another_process_makes_first_stays(tmp_path, monkeypatch):
    path = tmp_path / "raw.zarr"
    create = module.create_layout

    def beaten(files, *arguments, **settings) -> None:
        create(files, *arguments, **settings)
        (path / "mark").touch()
        create(files, *arguments, **settings)

    monkeypatch.setattr(module, "create_layout", beaten)
    open_share(path, UNITS[:1])
    assert (path / "mark").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["raw.zarr"]
