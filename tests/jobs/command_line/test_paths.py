"""Paths on the command line: only local folders are written, `~` is a home folder everywhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from logitbank.jobs.command_line.paths import local_path, location, out_path, shared_location
from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words

HERE = "far/out"
TRAIN = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--limit", 16]
JOBS = {
    "cache": cache_words("cifar:resnet8@nowhere.pt", Path(HERE)),
    "correct": ["correct", "raw", "--correction", "sort", "--out", HERE],
    "virtual": ["correct", "raw", "--correction", "sort", "--virtual", "--out", HERE],
    "dry run": ["correct", "raw", "--correction", "sort", "--dry-run", "--out", HERE],
    "train": [*TRAIN, "--out", HERE],
    "train-teacher": ["train-teacher", "--dataset", "digits", "--model", "x", "--out", HERE],
    "reproduce": ["reproduce", "digits/kd", "--dataset", "digits", "--out", HERE],
    "demo": ["demo", "--out", HERE],
    "report": [
        "correct",
        "raw",
        "--correction",
        "sort",
        "--out",
        "o",
        "--performance-report",
        HERE,
    ],
    "bench": ["bench", "correct", "--folder", HERE],
}
URLS = ["s3://bucket/x.zarr", "s3:/bucket/x.zarr", "GS://b", "memory://x", "a/http://x", "hf://x/y"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder, with a home beside it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def refused(capsys, *words: object, code: int) -> str:
    """Run a job that must be refused in one line, and give it."""
    assert run(*words) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


class TestWritten:
    @pytest.mark.parametrize("job", JOBS)
    def test_a_url_is_refused_by_every_job_that_writes(self, here, capsys, job):
        words = ["s3://bucket/x.zarr" if word in (HERE, Path(HERE)) else word for word in JOBS[job]]
        error = refused(capsys, *words, code=2)
        assert "'s3://bucket/x.zarr' is a URL, and so far only local folders are written" in error
        assert os.listdir(here) == []

    @pytest.mark.parametrize("url", URLS)
    def test_whatever_its_scheme(self, here, capsys, url):
        assert "is a URL" in refused(capsys, *TRAIN, "--out", url, code=2)
        (here / "job.yaml").write_text(f"out: '{url}'\n")
        error = refused(capsys, *TRAIN, "--config", "job.yaml", code=2)
        assert f"job.yaml: out: '{url}' is a URL" in error

    def test_of_a_file_url_the_path_is_named(self, here, capsys):
        error = refused(capsys, *TRAIN, "--out", "file:///data/run", code=2)
        assert "write it as a path, /data/run" in error

    @pytest.mark.parametrize(
        ("out", "code", "says"),
        [
            ("", 2, "is empty: a path is required"),
            ("  ", 2, "is empty: a path is required"),
            (".", 2, "is an existing folder: name a new one in it, such as ./NAME"),
            ("/", 2, "such as /NAME"),
            ("a/..", 2, "is an existing folder"),
            ("a\nb", 2, r"'a\nb' contains the control character '\n'"),
            ("a\x1b[31m", 2, "contains the control character"),
            ("a\0b", 2, "contains a NUL character"),
            ("x" * 300, 2, "a name of 300 bytes is too long"),
            ("é" * 120, 2, "a name of 240 bytes is too long"),
            ("d/" * 2000 + "x", 2, "bytes is too long"),
            ("~nobody-of-this-name/x", 2, "is not a home folder here"),
            ("file/x", 1, "file is not a folder"),
            ("link/x", 1, "link is not a folder"),
            ("/proc/nowhere/x", 1, "/proc/nowhere/x can't be made: /proc can't be written"),
            ("store/logits/x", 2, "which holds its arrays and nothing else"),
            ("seen/x", 2, "lies in the store"),
        ],
    )
    def test_what_cant_be_made_is_refused_before_any_work(self, here, raw, capsys, out, code, says):
        (here / "file").write_text("")
        (here / "link").symlink_to("nowhere")
        (here / "seen").symlink_to(raw)
        shutil.copytree(raw, here / "store")
        before = sorted(here.rglob("*"))
        for words in ([*TRAIN, "--out"], [*JOBS["cache"], "--out"], ["demo", "--out"]):
            assert says in refused(capsys, *words, out, code=code)
        assert sorted(here.rglob("*")) == before

    def test_a_path_stays_as_it_was_typed(self, here):
        assert out_path("runs/a") == "runs/a"
        assert out_path("./runs:2/a b") == "runs:2/a b"
        assert local_path("./s3:/x") == "./s3:/x"
        # Passed on to another job, a folder of this name must not become a home folder.
        assert out_path(out_path("./~mine")) == str(here / "~mine")


class TestOtherWork:
    """What lies there is never written into without a word, nor is its removal advised."""

    @pytest.mark.parametrize("flags", [[], ["--virtual"], ["--dry-run"], ["--part", "0/2"]])
    @pytest.mark.parametrize("out", ["raw.zarr", "./raw.zarr/", "link", "link/../raw.zarr"])
    def test_a_store_is_not_corrected_into_itself(self, here, raw, capsys, flags, out):
        shutil.copytree(raw, here / "raw.zarr")
        (here / "link").symlink_to("raw.zarr")
        words = ["correct", "raw.zarr", "--correction", "sort", *flags, "--out"]
        error = refused(capsys, *words, out.replace("link/..", "."), code=2)
        assert "is the store to be corrected, which must stay as it is: name another" in error
        url = ["correct", f"file://{here}/raw.zarr", *words[2:], out.replace("link/..", ".")]
        assert "is the store to be corrected" in refused(capsys, *url, code=2)
        assert Store.open("raw.zarr").manifest.correction is None

    @pytest.mark.parametrize("dry", [[], ["--dry-run"]])
    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("run", "is not a store: it contains a run (config.yaml); name another --out"),
            ("many", "it contains 0, 1, 2 and 7 more"),
            ("empty", "is not a store: it contains nothing"),
            ("file", "is a file"),
            ("link", "is a link that leads nowhere"),
        ],
    )
    def test_a_store_is_not_made_in_something_else(
        self, here, raw, teacher, capsys, monkeypatch, name, says, dry
    ):
        for folder, names in {"run": ("config.yaml", "last.pt"), "many": "0123456789"}.items():
            (here / folder).mkdir()
            for file in names:
                (here / folder / file).write_text("")
        (here / "empty").mkdir()
        (here / "file").write_text("")
        (here / "link").symlink_to("nowhere")
        before = sorted(here.rglob("*"))
        monkeypatch.setattr(
            "logitbank.jobs.cache._show_accuracy", lambda *measured: pytest.fail("measured")
        )
        for words in (cache_words(teacher, name), ["correct", raw, "--correction", "sort"]):
            assert run(*words, *dry, "--out", name) == 1
            error = capsys.readouterr().err
            assert says in error
            assert "remove" not in error
        assert sorted(here.rglob("*")) == before

    def test_a_dry_run_says_where_other_work_lies(self, raw, teacher, capsys):
        error = refused(capsys, *cache_words(teacher, raw, seed=1), "--dry-run", code=1)
        assert f"{raw} holds other work: augmentation.seed: the store has 0" in error
        assert "Name another --out" in error

    @pytest.mark.parametrize("job", ["demo", "reproduce"])
    def test_a_job_of_many_stages_fills_its_own_folder_alone(self, here, raw, capsys, job):
        words = [*JOBS[job][:-1], "mine", "--dry-run"]
        shutil.copytree(raw, here / "mine")
        error = refused(capsys, *words, code=2)
        assert "mine is a store, which holds its arrays and nothing else" in error
        shutil.rmtree(here / "mine")
        (here / "mine").mkdir()
        (here / "mine/notes.txt").write_text("mine")
        error = refused(capsys, *words, code=2)
        assert "mine was not made by this job (it contains notes.txt" in error
        (here / "mine" / f"{job}.log").write_text("")
        assert run(*words) == 0

    def test_a_performance_report_replaces_pages_alone(self, here, raw, capsys):
        words = ["correct", raw, "--correction", "sort", "--out", "o", "--cluster", "local"]
        words += ["--performance-report", "train.h5", "--dry-run"]
        (here / "train.h5").write_bytes(b"\x89HDF")
        assert "an existing file that is not an HTML page" in refused(capsys, *words, code=2)
        (here / "train.h5").write_text("<!DOCTYPE html>\n<html>")
        assert run(*words) == 0


class TestHome:
    """`~` is the home folder in every path."""

    def test_of_what_is_read_and_written(self, here, raw, capsys):
        home = here.parent / "home"
        shutil.copytree(raw, home / "raw.zarr")
        done("inspect", "~/raw.zarr")
        done("verify", "~/raw.zarr")
        done("correct", "~/raw.zarr", "--correction", "sort", "--out", "~/sort.zarr")
        done(*TRAIN, "--epochs", 1, "--soft-labels", "~/raw.zarr", "--out", "~/new/run")
        assert Store.open(home / "sort.zarr").manifest.correction is not None
        assert (home / "new" / "run" / "last.pt").is_file()
        assert os.listdir(here) == []

    def test_in_files_of_settings(self, here, raw, capsys):
        home = here.parent / "home"
        shutil.copytree(raw, home / "raw.zarr")
        (home / "job.yaml").write_text("store: ~/raw.zarr\ncorrection: swap\nout: ~/swap.zarr\n")
        done("correct", "--config", "~/job.yaml")
        assert (home / "swap.zarr" / "zarr.json").is_file()
        assert os.listdir(here) == []

    def test_of_recipes_and_what_they_extend(self, here, capsys):
        home = here.parent / "home"
        (home / "base.yaml").write_text("extends: digits/kd\n")
        (home / "mine.yaml").write_text("extends: ~/base.yaml\nloss: lskd\n")
        words = ["--dataset", "digits", "--out", "~/rep", "--dry-run"]
        done("reproduce", "~/mine.yaml", *words)
        assert f"--out {home}/rep/students/mine" in capsys.readouterr().out

    def test_of_a_queues_file_and_the_folders_in_it(self, here, capsys):
        from logitbank.jobs.cluster.spec import Queue, parse_cluster

        home = here.parent / "home"
        text = (
            "workers: 1\ncores: 1\nmemory: 1GB\nlog_directory: ~/logs\npython: ~/venv/bin/python\n"
        )
        (home / "q.yaml").write_text(text)
        where = parse_cluster("slurm:~/q.yaml")
        assert isinstance(where, Queue)
        assert where.settings.log_directory == f"{home}/logs"
        assert where.settings.python == f"{home}/venv/bin/python"


class TestRead:
    def test_a_location_is_a_path_or_a_url(self, here):
        assert location("s3://bucket/~/x") == "s3://bucket/~/x"
        assert location("~/x") == f"{here.parent}/home/x"
        assert shared_location("s3://bucket/x") == "s3://bucket/x"
        assert shared_location("x") == str(here / "x")

    @pytest.mark.parametrize("job", ["inspect", "verify"])
    @pytest.mark.parametrize(
        ("where", "says"),
        [
            ("", "is empty: a path is required"),
            ("~nobody-of-this-name", "is not a home folder here"),
            ("http://[", "is not a URL"),
            ("a\0", "contains a NUL character"),
        ],
    )
    def test_what_names_nothing_is_one_line(self, here, capsys, job, where, says):
        assert says in refused(capsys, job, where, code=2)

    @pytest.mark.parametrize("job", ["inspect", "verify"])
    def test_a_server_that_does_not_answer_is_one_line(self, capsys, job):
        error = refused(capsys, job, "http://me:secret@127.0.0.1:1/raw.zarr", code=1)
        assert "http://127.0.0.1:1/raw.zarr: zarr.json can't be fetched: " in error
        assert "secret" not in error

    def test_a_file_url_is_read(self, raw, capsys):
        done("inspect", f"file://{raw}", "--json")
        assert json.loads(capsys.readouterr().out)["manifest"]["kind"] == "raw"
