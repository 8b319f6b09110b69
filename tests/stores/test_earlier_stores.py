"""Stores that earlier code made open, verify, and are gone on with.

Those in the folder itself are of the first release. In `second/` each says more: an unfinished one
has a copy of its identity in `unfinished/` and what its teacher said of the probe.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from logitbank.jobs.cli import main
from logitbank.stores.layout import all_units
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.slab import SlabLoader
from logitbank.stores.verify import verify_store
from tests.stores.store_examples import (
    SAMPLES,
    files_of,
    logits_of,
    manifest,
    open_writer,
    sample_id,
    target,
    unit_values,
    write_store,
)

CPU = torch.device("cpu")
STORES = Path(__file__).resolve().parents[1] / "data" / "stores"
RAW = ["float16", "float32", "second/float16", "second/float32"]


def wanted_of(name: str) -> Manifest:
    """What the writer of a raw store was asked for."""
    encoding = "float32" if name.endswith("float32") else "float16"
    if name.startswith("second/"):
        return manifest(encoding=encoding, views=2, rows_per_chunk=5)
    return manifest(encoding=encoding, views=Store.open(path_of(name)).manifest.views)


def path_of(name: str) -> Path:
    return STORES / f"{name}.zarr"


def digest_in(path: Path) -> str:
    """The digest as it stands in the file, whatever code reads it now."""
    return json.loads((path / "zarr.json").read_bytes())["attributes"]["digest"]


def job(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


@pytest.fixture
def stores(tmp_path) -> Path:
    """All of them, to be written to."""
    return Path(shutil.copytree(STORES, tmp_path / "stores"))


@pytest.mark.parametrize("name", RAW)
def test_a_raw_store_is_read_verified_and_found_complete(stores, name):
    path, before = stores / f"{name}.zarr", files_of(path_of(name))
    assert verify_store(path) == []
    store = Store.open(path)
    encoding = name.rpartition("/")[2]
    for view in range(store.manifest.views):
        np.testing.assert_array_equal(
            store.read_view("logits", view), logits_of(view).astype(encoding)
        )
    np.testing.assert_array_equal(store.target, target())
    np.testing.assert_array_equal(store.sample_id, sample_id())
    assert open_writer(path, wanted_of(name)).complete
    assert files_of(path) == before


@pytest.mark.parametrize("name", RAW)
def test_a_raw_store_is_mended_to_the_digest_it_has(stores, name):
    path, wanted = stores / f"{name}.zarr", wanted_of(name)
    (path / "logits/c/0/0/0").write_bytes(b"")
    (path / "top/c/0/1/0").unlink()
    (path / "zarr.json").unlink()
    writer = open_writer(path, wanted)
    assert {"logits/c/0/0/0", "top/c/0/1/0", "zarr.json"} <= set(writer.mended)
    assert len(writer.missing) == 2
    assert write_store(path, wanted).digest == digest_in(path_of(name))
    assert verify_store(path) == []


@pytest.mark.parametrize("name", ["virtual", "second/virtual", "second/virtual-swap"])
def test_a_virtual_store_finds_its_parent(name):
    store = Store.open(path_of(name))
    top = store.read_view("top", 0)
    np.testing.assert_array_equal(top[:, 0], store.target)
    assert verify_store(path_of(name)) == []


def test_a_virtual_store_reads_as_the_corrected_one_that_was_written():
    virtual, corrected = (
        Store.open(STORES / "second" / f"{name}.zarr") for name in ("virtual", "corrected")
    )
    slabs = [SlabLoader(each) for each in (virtual, corrected)]
    for view in range(2):
        for name in ("view_params", "pixel_crc", "top", "logits"):
            np.testing.assert_array_equal(
                virtual.read_view(name, view), corrected.read_view(name, view)
            )
        one, other = (slab.load(view, None, CPU) for slab in slabs)
        rows = one.rows
        assert (one[rows] == other[rows]).all()
        assert len(rows) == SAMPLES


def test_an_unfinished_store_is_finished_and_its_identity_kept_twice_from_now_on(tmp_path):
    path = Path(shutil.copytree(STORES / "unfinished.zarr", tmp_path / "raw.zarr"))
    assert len(open_writer(path, manifest(views=2)).missing) == 4
    (path / "zarr.json").write_bytes(b"")
    assert len(open_writer(path, manifest(views=2)).missing) == 4
    assert write_store(path, manifest(views=2)).digest == (
        Store.open(STORES / "float16.zarr").manifest.digest
    )


def test_an_unfinished_store_with_a_probe_goes_on_to_the_digest_of_one_run(stores):
    path, wanted = stores / "second/unfinished.zarr", wanted_of("second/unfinished")
    writer = open_writer(path, wanted)
    assert writer.missing == all_units(wanted)[2:]
    assert writer.mended == []
    probe = writer.manifest.measured.probe
    assert probe is not None
    np.testing.assert_array_equal(np.float32(probe.logits), logits_of(0)[: len(probe.logits)])
    for unit in writer.missing:
        writer.write_unit(unit, unit_values(wanted, unit))
    sealed = writer.seal()
    assert sealed.digest == digest_in(STORES / "second/float16.zarr")
    assert sealed.measured.probe == probe
    assert verify_store(path) == []
    assert not (path / "unfinished").exists()


@pytest.mark.parametrize("torn", [b"", b"{", None])
def test_an_unfinished_store_without_its_manifest_is_known_by_its_other_copy(stores, torn):
    path, wanted = stores / "second/unfinished.zarr", wanted_of("second/unfinished")
    if torn is None:
        (path / "zarr.json").unlink()
    else:
        (path / "zarr.json").write_bytes(torn)
    assert len(open_writer(path, wanted).missing) == 2
    assert write_store(path, wanted).digest == digest_in(STORES / "second/float16.zarr")


def test_jobs_verify_every_one_and_correct_to_the_digests_of_then(stores, monkeypatch):
    monkeypatch.chdir(stores / "second")
    for name in ("float16", "float32", "corrected", "virtual", "virtual-swap"):
        job("verify", f"{name}.zarr")
        job("inspect", f"{name}.zarr")
    for name, raw, words in (
        ("corrected", "float32", ("--correction", "sort")),
        ("virtual", "float32", ("--correction", "sort", "--virtual")),
        ("virtual-swap", "float16", ("--correction", "swap", "--virtual")),
    ):
        job("correct", f"{raw}.zarr", *words, "--out", f"again-{name}.zarr")
        assert digest_in(Path(f"again-{name}.zarr")) == digest_in(Path(f"{name}.zarr"))
        before = files_of(Path(f"{name}.zarr"))
        job("correct", f"{raw}.zarr", *words, "--out", f"{name}.zarr")
        assert digest_in(Path(f"{name}.zarr")) == digest_in(Path(f"again-{name}.zarr"))
        assert {**files_of(Path(f"{name}.zarr")), "zarr.json": b""} == {**before, "zarr.json": b""}


def test_a_corrected_store_is_mended_from_its_parent(stores, monkeypatch):
    monkeypatch.chdir(stores / "second")
    chunk = Path("corrected.zarr/logits/c/1/1/0")
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1])
    assert main(["verify", "corrected.zarr"]) == 1
    job("correct", "float32.zarr", "--correction", "sort", "--out", "corrected.zarr")
    assert chunk.read_bytes() == whole
    job("verify", "corrected.zarr")
