"""A virtual store finds its parent, and goes nowhere that only its manifest names."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from logitbank import register_correction
from logitbank.stores.corrections import CORRECTIONS, correction_of_manifest
from logitbank.stores.errors import LogitbankError, StoreError, UsageError
from logitbank.stores.files import ObjectStoreFiles
from logitbank.stores.manifest import CorrectionIdentity, Manifest
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise, summary_lines
from logitbank.stores.verify import verify_store
from logitbank.stores.virtual import virtual_manifest, write_virtual
from tests.stores.store_examples import VIEWS, manifest, write_store

USERS = "import:of_a_user:theirs"


def virtual(
    raw: Path, out: Path, *, correction: str = "sort", places: tuple[str, ...] | None = None
) -> Path:
    """A virtual store of a raw one, sealed as it says: with any correction, and any places."""
    parent = Store.open(raw).manifest
    made = CorrectionIdentity(correction, str(parent.digest))
    corrected = dataclasses.replace(parent.unsealed(), kind="corrected", correction=made)
    wanted = virtual_manifest(corrected, str(raw), out)
    if places is not None:
        provenance = dataclasses.replace(wanted.provenance, parent_places=places)
        wanted = dataclasses.replace(wanted, provenance=provenance)
    write_virtual(out, wanted)
    return out


def refusal(path: object, **opening: object) -> str:
    with pytest.raises(LogitbankError) as caught:
        Store.open(path, **opening)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- A parent that moved


@pytest.fixture
def moved(raw, tmp_path) -> tuple[Path, Path]:
    """A virtual store, and its parent where nothing leads to."""
    path = virtual(raw, tmp_path / "here" / "sort.zarr")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return path, raw.rename(elsewhere / "parent.zarr")


def test_the_caller_says_where_it_is(moved, tmp_path, monkeypatch):
    path, parent = moved
    assert "or name it with --parent PATH" in refusal(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    near = ("elsewhere/parent.zarr", "../elsewhere/parent.zarr", "~/elsewhere/parent.zarr")
    for named in (parent, str(parent), *near):
        store = Store.open(path, parent=named)
        assert os.path.samefile(store.parent.where, parent)
        assert store.read_view("logits", 0).shape == (10, 7)
    parent.rename(path.parent / "beside.zarr")
    assert Store.open(path, parent="beside.zarr").parent.where == str(path.parent / "beside.zarr")


def test_what_is_named_is_the_parent_or_refused_with_both_digests(moved, tmp_path):
    path, parent = moved
    other = write_store(tmp_path / "other.zarr", manifest(encoding="float32"))
    digests = (Store.open(parent).manifest.digest[:12], other.digest[:12])
    message = refusal(path, parent=tmp_path / "other.zarr")
    assert all(digest in message for digest in digests)
    assert message.startswith(f"{tmp_path / 'other.zarr'} is not the parent of {path}: ")
    assert f"nothing is at {tmp_path / 'no.zarr'}" in refusal(path, parent=tmp_path / "no.zarr")
    # Not even where it would be found without.
    parent.rename(path.parent / "raw.zarr")
    Store.open(path)
    assert "is not the parent" in refusal(path, parent=tmp_path / "other.zarr")


def test_a_store_with_rows_of_its_own_has_no_parent_to_name(raw):
    for job in (Store.open, summarise, verify_store):
        with pytest.raises(UsageError, match=r"--parent x.zarr: .* has rows of its own"):
            job(raw, parent="x.zarr")


def test_verify_and_inspect_take_it_too(moved):
    path, parent = moved
    assert [problem.key for problem in verify_store(path)] == ["zarr.json"]
    assert verify_store(path, parent=parent) == []
    summary = summarise(path)
    assert (summary.parent, summary.units_present) == (None, None)
    assert "can't be found: nothing is at" in summary_lines(summary)[-1]
    assert "name it with --parent PATH" in summary_lines(summary)[-1]
    (parent / "logits/c/1/0/0").unlink()
    summary = summarise(path, parent=parent)
    assert summary_lines(summary)[-1].endswith(f"{parent}: 8 of 9 units are present")
    assert summary.to_json()["parent"] == str(parent)


def test_both_are_found_through_links(raw, tmp_path):
    real, links = tmp_path / "real", tmp_path / "links"
    links.mkdir()
    path = virtual(raw, real / "sort.zarr", places=("nowhere", "/nowhere/raw.zarr"))
    (links / "linked.zarr").symlink_to(path)
    refusal(links / "linked.zarr")
    (links / "raw.zarr").symlink_to(raw)  # Beside the link.
    assert os.path.samefile(Store.open(links / "linked.zarr").parent.where, raw)
    (links / "raw.zarr").unlink()
    raw.rename(real / "raw.zarr")  # Beside what is linked to.
    assert os.path.samefile(Store.open(links / "linked.zarr").parent.where, real / "raw.zarr")


# ---- Where a manifest's word is not enough


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The URLs that are opened."""
    urls: list[str] = []
    plain = ObjectStoreFiles.__init__

    def opened(files: ObjectStoreFiles, url: str) -> None:
        urls.append(url)
        plain(files, url)

    monkeypatch.setattr(ObjectStoreFiles, "__init__", opened)
    return urls


@pytest.fixture
def memory(raw):
    """The raw store behind `memory://bank/raw.zarr` as well."""
    files = fsspec.filesystem("memory")
    files.put(str(raw), "/bank/raw.zarr", recursive=True)
    yield files
    files.rm("/bank", recursive=True)


@pytest.mark.parametrize(
    "url",
    [
        "memory://bank/raw.zarr",
        "http://169.254.169.254/raw.zarr",
        "file:///raw.zarr",
        "simplecache::s3://bucket/raw.zarr",
    ],
)
def test_a_store_on_this_disk_sends_nobody_to_a_url(raw, tmp_path, fetched, memory, url):
    path = virtual(raw, tmp_path / "far" / "sort.zarr", places=(url,))
    assert f"{url} is not fetched unless you name it (--parent {url})" in refusal(path)
    assert summarise(path).parent is None
    assert verify_store(path) != []
    assert fetched == []


def test_the_caller_may_send_it_there(raw, tmp_path, memory):
    url = "memory://bank/raw.zarr"
    path = virtual(raw, tmp_path / "far" / "sort.zarr", places=(url,))
    store = Store.open(path, parent=url)
    assert store.parent.where == url
    np.testing.assert_array_equal(
        store.read_view("logits", 1), Store.open(raw).corrected_by("sort").read_view("logits", 1)
    )


def test_a_store_behind_a_url_stays_on_its_host(raw, tmp_path, fetched, memory):
    local = virtual(raw, tmp_path / "v.zarr", places=("../raw.zarr",))
    memory.put(str(local), "/bank/v.zarr", recursive=True)
    assert Store.open("memory://bank/v.zarr").parent.where == "memory://bank/raw.zarr"
    places = ("http://other/raw.zarr", str(raw), "s3://bank/gone.zarr")
    local = virtual(raw, tmp_path / "w.zarr", places=places)
    memory.put(str(local), "/bank/w.zarr", recursive=True)
    fetched.clear()
    assert "s3://bank/gone.zarr is not fetched unless" in refusal("memory://bank/w.zarr")
    assert fetched == ["memory://bank/w.zarr", "memory://bank/gone.zarr"]


def test_pipes_folders_and_names_that_no_file_has_are_no_parents(raw, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "odd.zarr").mkdir()
    os.mkfifo(tmp_path / "odd.zarr" / "zarr.json")
    places = ("a\0b", "x" * 5000, "../pipe", "../odd.zarr")
    path = virtual(raw, tmp_path / "sort.zarr", places=places)
    message = refusal(path)
    assert f"there is no store at {tmp_path / 'pipe'}: it is a named pipe" in message
    assert f"{tmp_path / 'odd.zarr'}: zarr.json is a named pipe, where a file belongs" in message
    assert Store.open(path, parent=raw).parent.where == str(raw)


def test_it_never_leads_to_itself_or_to_another_virtual_store(raw, tmp_path):
    path = virtual(raw, tmp_path / "far" / "sort.zarr", places=(".", "../swap.zarr"))
    virtual(raw, tmp_path / "far" / "swap.zarr", correction="swap", places=("../sort.zarr",))
    assert "sort.zarr has changed, or is another store" in refusal(path)
    # One that says it has the very digest that is looked for.
    forged = tmp_path / "far" / "swap.zarr" / "zarr.json"
    document = json.loads(forged.read_text())
    sealed = Manifest.from_attributes(document["attributes"], "here")
    digest = Store.open(raw).manifest.digest
    document["attributes"] = sealed.sealed(str(digest), "now").to_attributes()
    forged.write_text(json.dumps(document))
    assert "is virtual itself, and a virtual store reads a raw one" in refusal(path)
    assert "is not the parent of" in refusal(path, parent=path)


# ---- Whose code a store may run


@pytest.fixture
def code(tmp_path, monkeypatch) -> Path:
    """A module `of_a_user` that can be imported, and tells by a file that it was."""
    (tmp_path / "of_a_user.py").write_text(
        "import pathlib\n"
        "from logitbank import register_correction\n"
        "pathlib.Path(__file__).with_name('ran').touch()\n"
        "register_correction('theirs', lambda logits, target: logits, temperature=None)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path / "ran"
    sys.modules.pop("of_a_user", None)
    CORRECTIONS.pop("theirs", None)


def test_no_store_runs_the_code_that_its_manifest_names(raw, tmp_path, code):
    path = virtual(raw, tmp_path / "theirs.zarr", correction=USERS)
    message = refusal(path)
    assert f"{path} is corrected by {USERS}, and a manifest runs no code" in message
    assert f"--allow-correction {USERS}" in message
    for others in (("import:of_a_user",), ("theirs",), ("import:*",), ("import:of_a_user:other",)):
        refusal(path, allow_corrections=others)
    assert f"corrected by {USERS} as they are read" in summary_lines(summarise(path))[0]
    assert verify_store(path) == []
    assert not code.exists()


def test_the_caller_allows_it_by_its_name(raw, tmp_path, code):
    path = virtual(raw, tmp_path / "theirs.zarr", correction=USERS)
    store = Store.open(path, allow_corrections=[USERS])
    assert code.exists()
    for view in range(VIEWS):
        expected = Store.open(raw).read_view("logits", view)
        np.testing.assert_array_equal(store.read_view("logits", view), expected)


def test_a_name_alone_stands_for_what_this_process_registered(raw, tmp_path):
    path = virtual(raw, tmp_path / "theirs.zarr", correction="theirs")
    assert "corrected by 'theirs', which is not one of sort, swap" in refusal(path)
    refusal(path, parent=raw)
    register_correction("theirs", lambda logits, target: logits, temperature=None)
    try:
        assert Store.open(path).read_view("logits", 0).shape == (10, 7)
    finally:
        del CORRECTIONS["theirs"]


def test_built_in_corrections_need_no_allowance():
    assert correction_of_manifest("sort", "here").name == "sort"
    with pytest.raises(StoreError, match="a manifest runs no code"):
        correction_of_manifest(USERS, "here", ["sort"])
