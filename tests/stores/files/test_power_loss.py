"""What a power loss may take: names before their data, and manifests of unfinished stores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from logitbank.stores.chunks import write_chunk
from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import store_arrays
from logitbank.stores.manifest import TeacherIdentity
from logitbank.stores.reader import Store
from logitbank.stores.virtual import virtual_manifest, write_virtual
from tests.stores.store_examples import manifest, open_writer, unit_values, write_store

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="open files have no names here"
)


class Journal:
    """What was flushed and renamed, in order, by path."""

    def __init__(self, monkeypatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync = os.fsync

        def flushed(descriptor: int) -> None:
            fsync(descriptor)
            self.events.append(("flush", os.readlink(f"/proc/self/fd/{descriptor}")))

        def renaming(rename):
            def renamed(source, place) -> None:
                rename(source, place)
                self.events.append(("rename", f"{source} {place}"))

            return renamed

        monkeypatch.setattr(os, "fsync", flushed)
        for name in ("replace", "rename"):
            monkeypatch.setattr(os, name, renaming(getattr(os, name)))

    def check(self, place: Path) -> None:
        """Require each rename to a place to follow its data's flush and precede its folder's."""
        renames = [
            (number, event[1].split()[0])
            for number, event in enumerate(self.events)
            if event[0] == "rename" and event[1].split()[1] == str(place)
        ]
        assert renames, place
        for number, source in renames:
            assert ("flush", source) in self.events[:number], place
            assert ("flush", str(place.parent)) in self.events[number:], place


def test_a_store_is_flushed_before_each_name_that_a_resume_goes_by(tmp_path, monkeypatch):
    journal = Journal(monkeypatch)
    path = tmp_path / "new/nested/raw.zarr"
    writer = open_writer(path)
    journal.check(path)
    for folder in (tmp_path, tmp_path / "new"):
        assert ("flush", str(folder)) in journal.events
    journal.events.clear()
    writer.record(writer.manifest.measured)
    journal.check(path / "zarr.json")
    for unit in writer.missing:
        writer.write_unit(unit, unit_values(writer.manifest, unit))
    journal.events.clear()
    writer.seal()
    for key in ("zarr.json", "crc/zarr.json", "crc/logits/zarr.json", "crc/logits/c/0/0/0"):
        journal.check(path / key)
    last = max(n for n, event in enumerate(journal.events) if event[0] == "rename")
    before = journal.events[:last]
    for key in ("logits/c/2/2/0", "logits/c/2/2", "logits/c/2", "logits/c", "logits", "target/c/0"):
        assert ("flush", str(path / key)) in before


def test_a_durable_folder_flushes_all_the_folders_that_it_makes(tmp_path, monkeypatch):
    journal = Journal(monkeypatch)
    run = tmp_path / "runs/a/b"
    LocalFiles(run, durable=True).put("last.pt", [b"weights"])
    journal.check(run / "last.pt")
    for folder in (tmp_path, tmp_path / "runs", tmp_path / "runs/a"):
        assert ("flush", str(folder)) in journal.events


def test_a_virtual_store_is_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    wanted = virtual_manifest(manifest(kind="virtual"), str(tmp_path / "raw.zarr"), tmp_path / "v")
    journal = Journal(monkeypatch)
    write_virtual(tmp_path / "v", wanted)
    journal.check(tmp_path / "v")


def begun(path: Path) -> None:
    writer = open_writer(path)
    for unit in writer.missing[:5]:
        writer.write_unit(unit, unit_values(writer.manifest, unit))


TORN = {"empty": b"", "half": b'{"zarr_format": 3, "attri', "zeros": bytes(100), "gone": None}


@pytest.mark.parametrize("torn", TORN)
def test_the_work_goes_on_without_the_manifest_of_an_unfinished_store(tmp_path, torn):
    begun(tmp_path / "raw.zarr")
    root = tmp_path / "raw.zarr/zarr.json"
    root.unlink() if TORN[torn] is None else root.write_bytes(TORN[torn])
    writer = open_writer(tmp_path / "raw.zarr")
    assert len(writer.missing) == 4
    assert "zarr.json" in writer.mended
    whole = write_store(tmp_path / "whole.zarr")
    assert write_store(tmp_path / "raw.zarr").digest == whole.digest


@pytest.mark.parametrize("key", ["logits/zarr.json", "target/c/0", "unfinished/zarr.json"])
def test_any_other_torn_file_of_an_unfinished_store_is_written_again(tmp_path, key):
    begun(tmp_path / "raw.zarr")
    (tmp_path / "raw.zarr" / key).write_bytes(b"")
    assert len(open_writer(tmp_path / "raw.zarr").missing) == 4
    assert (tmp_path / "raw.zarr" / key).stat().st_size > 0


def test_labels_of_other_samples_are_written_again(tmp_path):
    """A chunk that is whole, and not this store's."""
    begun(tmp_path / "raw.zarr")
    target = tmp_path / "raw.zarr/target/c/0"
    right = target.read_bytes()
    spec = store_arrays(manifest())["target"]
    write_chunk(LocalFiles(tmp_path / "raw.zarr"), spec, (0,), np.zeros(10, np.int32))
    open_writer(tmp_path / "raw.zarr")
    assert target.read_bytes() == right


def test_chunks_of_another_teacher_are_not_taken_for_these(tmp_path):
    begun(tmp_path / "raw.zarr")
    (tmp_path / "raw.zarr/zarr.json").write_bytes(b"")
    other = TeacherIdentity(
        "cifar:resnet8", "b" * 64, (0.5,) * 3, (0.25,) * 3, 32, "float32", 64, "contiguous"
    )
    with pytest.raises(StoreError, match="holds other work: teacher.state_sha256"):
        open_writer(tmp_path / "raw.zarr", manifest(teacher=other))


def test_chunks_that_nothing_proves_are_left_alone(tmp_path):
    """As an earlier release leaves them."""
    begun(tmp_path / "raw.zarr")
    (tmp_path / "raw.zarr/zarr.json").write_bytes(b"")
    (tmp_path / "raw.zarr/unfinished/zarr.json").unlink()
    chunk = (tmp_path / "raw.zarr/logits/c/0/0/0").read_bytes()
    with pytest.raises(StoreError, match="is empty, and nothing else there proves .* another --o"):
        open_writer(tmp_path / "raw.zarr")
    assert (tmp_path / "raw.zarr/logits/c/0/0/0").read_bytes() == chunk


def test_what_killed_processes_left_beside_a_store_goes_with_the_next_run(tmp_path):
    for name in (".raw.zarr.0a.partial", ".raw.zarr.2.0a.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_bytes(b"half")
    for name in (".raw.zarr.sealing.3", ".raw.zarr.0a.now", "..raw.zarr.sealing.3.0a.now"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".raw.zarr.sealing.4").touch()
    write_store(tmp_path / "raw.zarr")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"raw.zarr", ".raw.zarr.2.0a.partial", ".raw.zarr.sealing.4"}


def test_who_is_second_to_make_a_layout_may_lose_its_own_meanwhile(tmp_path, monkeypatch):
    put_all, path = LocalFiles.put_all, tmp_path / "raw.zarr"

    def beaten(files, contents):
        monkeypatch.setattr(LocalFiles, "put_all", put_all)
        write_store(path)
        raise StoreError("the folder is gone")

    monkeypatch.setattr(LocalFiles, "put_all", beaten)
    assert open_writer(path).complete
    assert Store.open(path)
