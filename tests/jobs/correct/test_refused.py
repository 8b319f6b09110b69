"""What `correct` refuses before it writes anything, so that a failure leaves nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fsspec
import pytest

from logitbank.jobs.command_line.paths import shared_location
from tests.jobs.command import done, run


@pytest.fixture
def mine(raw, tmp_path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "raw.zarr"))


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def error_of(capsys, code: int, *words: object) -> str:
    capsys.readouterr()
    assert run("correct", *words) == code
    [line] = capsys.readouterr().err.splitlines()
    return line


# ---- A store is never made of, in or around the one that it is made from


@pytest.mark.parametrize(
    ("out", "relation"),
    [
        ("raw.zarr", "is the store to be corrected"),
        ("./other/../raw.zarr/", "is the store to be corrected"),
        ("{here}/raw.zarr", "is the store to be corrected"),
        ("link.zarr", "is the store to be corrected"),
        ("raw.zarr/sort.zarr", "lies in the store"),
        ("link.zarr/deep/er/sort.zarr", "lies in the store"),
        ("../{name}", "contains the store to be corrected"),
        (".", "is an existing folder"),
        ("{here}/..", "is an existing folder"),
    ],
)
def test_out_is_not_the_input(mine, tmp_path, capsys, monkeypatch, out, relation):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.zarr").symlink_to("raw.zarr")
    (tmp_path / "other").mkdir()
    before, out = content(tmp_path), out.format(here=tmp_path, name=tmp_path.name)
    for store in ("raw.zarr", mine, "link.zarr", f"file://{mine}"):
        for more in ((), ("--virtual",), ("--dry-run",), ("--devices", "cpu,cpu")):
            words = (store, "--correction", "sort", *more, "--out", out)
            assert relation in error_of(capsys, 2, *words)
    assert content(tmp_path) == before


def test_a_store_beside_it_is_none_of_these(mine, tmp_path):
    done("correct", mine, "--correction", "sort", "--out", tmp_path / "raw.zarr.sort", "--dry-run")


# ---- A failure leaves nothing


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--device", "cuda:99"), 2, "CUDA devices"),
        (("--device", "warp"), 2, "torch knows cpu, cuda"),
        (("--part", "0/2", "--device", "cuda:99"), 2, "CUDA devices"),
        ((), 1, "chunk logits/c/1/2/0 is missing, and 1 more of 50 chunks"),
        # Seen before anybody queues for a cluster.
        (("--cluster", "tcp://127.0.0.1:9"), 1, "chunk logits/c/1/2/0 is missing, and 1 more"),
    ],
)
def test_what_is_lacking_is_found_before_the_layout(mine, tmp_path, capsys, words, code, message):
    if code == 1:
        for name in ("logits", "top"):
            (mine / name / "c/1/2/0").unlink()
    out = tmp_path / "sort.zarr"
    line = error_of(capsys, code, mine, "--correction", "sort", *words, "--out", out)
    assert message in line
    assert os.listdir(tmp_path) == ["raw.zarr"]


def test_workers_get_a_url_as_it_is_and_none_of_this_processs_memory(mine, tmp_path, capsys):
    assert shared_location("s3://bucket/raw.zarr") == "s3://bucket/raw.zarr"
    assert shared_location("raw.zarr") == f"{os.getcwd()}/raw.zarr"
    memory = fsspec.filesystem("memory")
    memory.put(str(mine), "/bank/raw.zarr", recursive=True)
    try:
        words = ("memory://bank/raw.zarr", "--correction", "sort", "--cluster", "local:1")
        line = error_of(capsys, 2, *words, "--out", tmp_path / "sort.zarr")
    finally:
        memory.rm("/bank", recursive=True)
    assert "lies in the memory of this process, where no worker can read it" in line
    assert os.listdir(tmp_path) == ["raw.zarr"]
