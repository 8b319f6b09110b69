"""Hostile and odd files in a store are named in one line; nothing is followed, nothing waits."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from logitbank.jobs.verify import advice
from logitbank.stores.errors import LogitbankError, StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise, summary_lines
from logitbank.stores.verify import Problem, verify_store
from logitbank.stores.virtual import virtual_manifest, write_virtual
from tests.stores.store_examples import files_of, manifest, open_writer, write_store
from tests.stores.test_damage import check_mended, read_everything

CHUNK = "logits/c/1/1/0"


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1_000
    return text


# Manifests


HOSTILE = [0, -1, 10**12, 2**64, 10**400, 1e12, float("nan"), float("inf"), True, None, "3", [], {}]
SIZES = [
    "views",
    "rows_per_chunk",
    "top_classes",
    "dataset.samples",
    "dataset.classes",
    "augmentation.size",
    "teacher.input_size",
    "teacher.batch_size",
]


def edited(store: Path, name: str, value: object) -> None:
    document = json.loads((store / "zarr.json").read_text())
    *parts, last = name.split(".")
    inner = document["attributes"]
    for part in parts:
        inner = inner[part]
    inner[last] = value
    (store / "zarr.json").write_text(json.dumps(document))


def refusals(store: Path) -> None:
    for look in (Store.open, summarise, verify_store):
        with pytest.raises(LogitbankError) as caught:
            look(store)
        assert str(store) in one_line(caught)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_none_can_be_is_named(store, name):
    for value in HOSTILE:
        edited(store, name, value)
        with pytest.raises(StoreError) as caught:
            Store.open(store)
        assert name.split(".")[-1] in one_line(caught)
    edited(store, name, 0)
    refusals(store)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows_per_chunk", 11),
        ("top_classes", 8),
        ("encoding", "float\x1b[31m"),
        ("measured", None),
        ("measured.label_ranks", None),
        ("measured.label_ranks", []),
        ("measured.label_ranks", [0, 0]),
        ("measured.label_ranks", [-1, 2]),
        ("measured.top1", None),
        ("measured.clean_top1", 50.0),
        ("teacher.std", [0, 1, 1]),
        ("augmentation.columns", []),
        ("extra" * 1_000, 1),
    ],
)
def test_fields_that_can_not_go_together_are_named(store, name, value):
    edited(store, name, value)
    refusals(store)


def test_more_units_than_can_be_listed(store):
    for name, value in (("dataset.samples", 2**32), ("views", 2**31)):
        edited(store, name, value)
    with pytest.raises(StoreError, match="units, more than 4,194,304"):
        verify_store(store)


def test_a_manifest_of_other_arrays_is_named_without_the_chunks_it_makes_up(store):
    edited(store, "views", 2**20)
    keys = [problem.key for problem in verify_store(store)]
    assert keys[0] == "zarr.json"
    assert len(keys) < 30


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, '{"a":' * 900 + "1" + "}" * 900, "[]", "\x00", "1" * 10_000, '{"a": 1}'],
    ids=["deep", "deep and whole", "a list", "a zero", "a long number", "no store's"],
)
def test_a_root_document_that_is_none(store, text):
    (store / "zarr.json").write_text(text)
    refusals(store)


def test_a_document_too_large_to_be_one_is_not_read(store):
    os.truncate(store / "zarr.json", 2**40)
    refusals(store)


# What stands in a file's place


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nested_folders(path: Path) -> None:
    path.unlink()
    (path / "a/b").mkdir(parents=True)


def unix_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # The name of a socket must be short.
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def link_out(path: Path) -> None:
    outside = path.parents[len(path.parts) - 1 - path.parts.index("raw.zarr")] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def circular_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    os.truncate(path, 2**40)


ODD = [pipe, folder, nested_folders, unix_socket, link_out, circular_link, huge]


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("key", [CHUNK, "top/zarr.json", "crc/top/c/0/0/0", "target/c/0"])
def test_what_is_no_file_is_named_refused_and_mended(store, sealed, key, make):
    make(store / key)
    outside = store.parent / "outside"
    kept = outside.read_bytes() if outside.exists() else None
    problems = [problem for problem in verify_store(store) if problem.key == key]
    assert [problem.remedy for problem in problems] == ["rerun"]
    with pytest.raises(StoreError) as caught:
        read_everything(store)
    one_line(caught)
    check_mended(store, sealed)
    assert kept is None or outside.read_bytes() == kept


def test_a_folder_with_something_in_it_is_not_given_up_for_a_chunk(store):
    folder(store / CHUNK)
    (store / CHUNK / "thesis.tex").write_text("mine")
    remedies = {problem.key: problem.remedy for problem in verify_store(store)}
    assert remedies == {CHUNK: "rerun", f"{CHUNK}/thesis.tex": "delete"}
    with pytest.raises(StoreError, match="is a folder with files in it.* move it away"):
        open_writer(store)
    assert (store / CHUNK / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("key", ["logits", "logits/c/1", "crc", "crc/logits"])
def test_no_folder_is_reached_through_a_link(store, key):
    outside = store.parent / "outside"
    (store / key).rename(outside)
    (store / key).symlink_to(outside)
    before = files_of(outside)
    problems = {problem.key: problem.remedy for problem in verify_store(store)}
    assert problems[key] == "none"
    with pytest.raises(StoreError, match=f"{key} is a link, and nothing in a store is read or"):
        read_everything(store)
    with pytest.raises(StoreError, match=f"{key} is a link, and nothing in a store is read or"):
        open_writer(store)
    assert files_of(outside) == before


def test_a_file_in_the_place_of_an_array_is_named(store):
    shutil.rmtree(store / "logits")
    (store / "logits").write_text("mine")
    for use in (open_writer, read_everything):
        with pytest.raises(StoreError, match="logits is a file, where a folder belongs"):
            use(store)
    assert (store / "logits").read_text() == "mine"


def test_a_store_may_itself_be_reached_through_a_link(store, tmp_path):
    (tmp_path / "link.zarr").symlink_to(store)
    read_everything(tmp_path / "link.zarr")
    assert verify_store(tmp_path / "link.zarr") == []
    assert open_writer(tmp_path / "link.zarr").complete


def test_a_file_that_may_not_be_read_is_named_and_left_alone(store, monkeypatch):
    chunk, opened = (store / CHUNK).read_bytes(), os.open

    def refuse(path, *arguments, **settings):
        if str(path).endswith(CHUNK):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **settings)

    monkeypatch.setattr(os, "open", refuse)
    (problem,) = verify_store(store)
    assert (problem.key, problem.cause) == (CHUNK, "can't be read: Permission denied")
    with pytest.raises(StoreError, match="can't be read: Permission denied"):
        open_writer(store)
    monkeypatch.undo()
    assert (store / CHUNK).read_bytes() == chunk


# What is no part of a store


def test_every_stray_thing_is_named_with_what_removes_it(store, sealed):
    (store / "logits/c/9/0").mkdir(parents=True)
    (store / "top/c/0/0/0.1.partial").write_bytes(b"half")
    (store / "pixel_crc/c/7").symlink_to("/etc/passwd")
    verdicts = {problem.key: problem.remedy for problem in verify_store(store)}
    assert verdicts == dict.fromkeys(
        ["logits/c/9", "top/c/0/0/0.1.partial", "pixel_crc/c/7"], "rerun"
    )
    check_mended(store, sealed)
    (store / "notes\x1b[31m.txt").write_text("mine")
    (store / "logits/README").write_text("mine")
    (store / "photos/empty").mkdir(parents=True)
    (store / "up").symlink_to("..")
    os.mkfifo(store / "crc/pipe")
    verdicts = {problem.key: problem.remedy for problem in verify_store(store)}
    assert verdicts == dict.fromkeys(
        ["notes\x1b[31m.txt", "logits/README", "photos", "up", "crc/pipe"], "delete"
    )
    write_store(store)
    assert {problem.key: problem.remedy for problem in verify_store(store)} == verdicts


def test_the_advice_says_what_mends_what(store):
    (store / CHUNK).write_bytes(b"")
    (store / "notes").write_text("mine")
    assert advice(verify_store(store)) == (
        "2 bad or stray files: run the job that made it again to mend 1 of them; delete 1 of them "
        "yourself, no job does"
    )
    (store / CHUNK).unlink()
    (store / "notes").unlink()
    assert advice(verify_store(store)) == (
        "1 bad or stray file: run the job that made it again to mend it"
    )
    assert advice(
        [Problem("raw.zarr/zarr.json", "", parent="raw.zarr"), Problem("a", "", "none")]
    ) == (
        "2 bad or stray files: run the job that made raw.zarr again to mend 1 of them; running a "
        "job again does not mend 1 of them"
    )


# What inspect says


@pytest.mark.parametrize("make", [Path.unlink, pipe, folder, link_out, huge])
@pytest.mark.parametrize("key", [CHUNK, "top/c/0/0/0"])
def test_inspect_counts_the_units_that_are_there(store, key, make):
    make(store / key)
    summary = summarise(store)
    assert "sealed as complete, but 8 of 9 units are present" in summary_lines(summary)[0]
    assert (summary.to_json()["units"], summary.to_json()["units_present"]) == (9, 8)


# Where a store is to lie


def test_a_store_is_made_in_an_empty_folder(sealed, tmp_path):
    (tmp_path / "raw.zarr").mkdir()
    check_mended(tmp_path / "raw.zarr", sealed)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_mended(tmp_path / "link", sealed)
    assert (tmp_path / "link").is_symlink()


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_run(path: Path) -> None:
    path.mkdir()
    (path / "config.yaml").write_text("seed: 0")


def photos(path: Path) -> None:
    path.mkdir()
    for name in "abcde":
        (path / f"{name}.jpg").write_text("mine")


def a_zarr_group(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_file, "out is a file, not a folder for a store: name another --out"),
        (a_run, "it holds a run .config.yaml.: name another --out"),
        (photos, "it holds a.jpg, b.jpg, c.jpg and 2 more: name another --out"),
        (a_zarr_group, "is not a logitbank store"),
        (lambda path: path.symlink_to("gone"), "out is a link that leads nowhere"),
        (circular_link, "out"),
    ],
)
@pytest.mark.parametrize("kind", ["raw", "virtual"])
def test_what_is_no_store_is_named_and_left_alone(tmp_path, kind, make, says):
    out = tmp_path / "out"
    if make is circular_link:
        out.touch()
    make(out)
    before = files_of(tmp_path)
    virtual = virtual_manifest(manifest(kind="virtual"), "raw.zarr", out)
    with pytest.raises(StoreError, match=says) as caught:
        open_writer(out) if kind == "raw" else write_virtual(out, virtual)
    assert "remove" not in one_line(caught)
    assert files_of(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_made_below_a_file(tmp_path):
    a_file(tmp_path / "file")
    with pytest.raises(StoreError, match="file is a file, not a folder"):
        open_writer(tmp_path / "file/raw.zarr")
    with pytest.raises(StoreError, match="file is a file, not a folder"):
        LocalFiles(tmp_path / "file/run").put("last.pt", [b"weights"])
