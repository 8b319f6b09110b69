"""Every job answers bad input with one clear line, and leaves nothing that looks complete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from logitbank.stores.errors import StoreError
from logitbank.stores.reader import Store
from tests.jobs.command import ROOT, run
from tests.jobs.conftest import cache_words

TRAIN = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--epochs", 1]


@dataclass
class Case:
    """A command line, its exit code and what its one line must say; {name} is a path made below."""

    id: str
    words: list[object] | dict[str, object]
    code: int
    says: str


CASES = [
    # Nothing there.
    Case("no job", ["cach"], 2, "unknown job 'cach': did you mean 'cache'?"),
    Case("verify nothing", ["verify", "{absent}"], 1, "there is no store at {absent}"),
    Case("inspect nothing", ["inspect", "{absent}"], 1, "there is no store at {absent}"),
    Case("inspect a folder", ["inspect", "{empty}"], 1, "{empty} is not a store"),
    Case(
        "correct nothing",
        ["correct", "{absent}", "--correction", "sort", "--out", "{out}"],
        1,
        "there is no store at {absent}",
    ),
    Case(
        "train on nothing",
        [*TRAIN, "--soft-labels", "{absent}", "--out", "{out}"],
        1,
        "there is no store at {absent}",
    ),
    Case("no dataset folder", {"dataset": "cifar100:{absent}"}, 1, "{absent}"),
    Case("no image folder", {"dataset": "imagefolder:{absent}"}, 1, "{absent}"),
    Case("no hdf5 file", {"dataset": "hdf5:{absent}"}, 1, "{absent}"),
    Case("an empty class", {"dataset": "imagefolder:{empty_class}"}, 1, "empty_class"),
    Case("one class", {"dataset": "imagefolder:{photos}"}, 1, "has only one class, 'a'"),
    Case(
        "train on one class",
        ["train", "--dataset", "imagefolder:{photos}", *TRAIN[3:], "--out", "{out}"],
        1,
        "has only one class, 'a'",
    ),
    Case(
        "a truncated image",
        ["train", "--dataset", "imagefolder:{broken}", *TRAIN[3:], "--out", "{out}"],
        1,
        "0.png",
    ),
    Case("no checkpoint", {"teacher": "cifar:resnet8@{absent}"}, 1, "{absent}"),
    Case("no config", ["inspect", "x", "--config", "{absent}"], 2, "--config {absent} can't be"),
    Case("a picture as config", ["inspect", "x", "--config", "{binary}"], 2, "is not YAML"),
    # Unknown names, each with the nearest valid one.
    Case("unknown dataset", {"dataset": "digit"}, 2, "did you mean 'digits'?"),
    Case("unknown split", {"split": "trian"}, 2, "did you mean 'train'?"),
    Case(
        "unknown student",
        [*TRAIN[:4], "cifar:resnet9", "--out", "{out}"],
        2,
        "did you mean 'resnet",
    ),
    Case("unknown kind", {"teacher": "cifra:resnet8@x"}, 2, "did you mean 'cifar'?"),
    Case("unknown augmentation", {"augmentation": "cifar-week"}, 2, "did you mean 'cifar-weak'?"),
    Case("unknown parameter", {"augmentation": "cifar-weak:pat=4"}, 2, "did you mean 'pad'?"),
    Case("unknown encoding", {"encoding": "float61"}, 2, "did you mean 'float16'?"),
    Case(
        "unknown correction",
        ["correct", "{raw}", "--correction", "sorted", "--out", "{out}"],
        2,
        "did you mean 'sort'?",
    ),
    Case("unknown loss", [*TRAIN, "--loss", "kld", "--out", "{out}"], 2, "did you mean 'kd'?"),
    Case("unknown flag", [*TRAIN, "--epoch", 3, "--out", "{out}"], 2, "did you mean --epochs?"),
    Case("unknown setting", ["verify", "x", "--config", "{settings}"], 2, "did you mean 'store'?"),
    Case("unknown device", {"device": "gpu"}, 2, "gpu"),
    # Sizes and counts.
    Case("too many views", {"views": 82}, 2, "has: 81"),
    Case("no views", {"views": 0}, 2, "0 views"),
    Case("endless views", {"augmentation": "imagenet-weak:size=32", "views": "all"}, 2, "no end"),
    Case("negative views", {"views": -3}, 2, "-3"),
    Case("negative batch", {"batch-size": -1}, 2, "'-1' is not a whole number of at least 1"),
    Case("negative limit", {"limit": -5}, 2, "'-5' is not a whole number of at least 1"),
    Case("a percentage", {"expect-top1": 130}, 2, "'130' is not a percentage"),
    Case("negative epochs", [*TRAIN, "--epochs", -1, "--out", "{out}"], 2, "'-1' is not a whole"),
    Case("negative rate", [*TRAIN, "--lr", -1.0, "--out", "{out}"], 2, "lr must be above 0"),
    Case("no weights", {"teacher": "cifar:resnet8"}, 2, "a teacher needs weights"),
    Case("views of another size", {"augmentation": "cifar-weak:size=28"}, 2, "size=32"),
    # Stores that don't fit.
    Case("other views", {"out": "{raw}", "seed": 1}, 1, "augmentation.seed: the store has 0"),
    Case(
        "incomplete",
        ["correct", "{half}", "--correction", "sort", "--out", "{out}"],
        1,
        "{half} is incomplete",
    ),
    Case(
        "train on incomplete",
        [*TRAIN, "--soft-labels", "{half}", "--out", "{out}"],
        1,
        "{half} is incomplete",
    ),
    Case("another version", ["inspect", "{future}"], 1, "format version 2"),
    Case(
        "train on another version",
        [*TRAIN, "--soft-labels", "{future}", "--out", "{out}"],
        1,
        "format version 2",
    ),
    Case(
        "another dataset",
        [
            *TRAIN[:2],
            "imagefolder:{photos}",
            *TRAIN[3:],
            "--soft-labels",
            "{raw}",
            "--out",
            "{out}",
        ],
        1,
        "holds 10 classes, but imagefolder train has 1",
    ),
    Case(
        "more samples than the store",
        [*TRAIN, "--soft-labels", "{raw}", "--out", "{out}"],
        1,
        "use --limit 160",
    ),
    Case(
        "corrected twice",
        ["correct", "{sorted}", "--correction", "swap", "--out", "{out}"],
        2,
        "is corrected by sort already",
    ),
    Case(
        "a damaged chunk",
        [*TRAIN, "--limit", 160, "--soft-labels", "{damaged}", "--out", "{out}"],
        1,
        "chunk logits/c/",
    ),
    Case("kd of nothing", [*TRAIN, "--loss", "kd", "--out", "{out}"], 2, "needs --soft-labels"),
    Case(
        "a run of another configuration",
        [*TRAIN, "--seed", 9, "--out", "{run}"],
        1,
        "seed is 0 there, 9 here",
    ),
    Case("not a teacher to trust", {"expect-top1": 95}, 1, "normalisation"),
    Case("a file in the way", {"out": "{file}"}, 1, "{file}"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory, raw, teacher) -> dict[str, Path]:
    """The paths that cases name, each made once."""
    root = tmp_path_factory.mktemp("places")
    made = {name: root / name for name in ("absent", "empty", "half", "future", "damaged", "run")}
    made |= {"raw": raw, "sorted": root / "sorted", "photos": root / "photos", "file": root / "f"}
    made |= {"broken": root / "broken", "empty_class": root / "empty_class"}
    made |= {"settings": root / "settings.yaml"}
    made["empty"].mkdir()
    made["file"].write_text("mine")
    made["settings"].write_text("stor: x\n")
    made["binary"] = root / "picture.png"
    made["binary"].write_bytes(b"\x89PNG\xff")
    shutil.copytree(raw, made["half"])
    edit(made["half"], status="incomplete", digest=None, seal=None)
    shutil.copytree(raw, made["future"])
    edit(made["future"], format_version=2)
    shutil.copytree(raw, made["damaged"])
    for chunk in made["damaged"].glob("logits/c/*/0/0"):
        chunk.write_bytes(b"torn")
    assert run("correct", raw, "--correction", "sort", "--out", made["sorted"]) == 0
    for name in ("photos", "broken", "empty_class"):
        (made[name] / "a").mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(made[name] / "a/0.png")
    (made["empty_class"] / "b").mkdir()
    shutil.copytree(made["broken"] / "a", made["broken"] / "b")
    whole = (made["broken"] / "a/0.png").read_bytes()
    (made["broken"] / "a/0.png").write_bytes(whole[: len(whole) // 2])
    assert run(*TRAIN, "--limit", 64, "--out", made["run"]) == 0
    return made


def edit(store: Path, **attributes: object) -> None:
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"] |= attributes
    (store / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_one_clear_line_and_nothing_half_written(case, places, teacher, tmp_path, capfd):
    places = places | {"out": tmp_path / "out"}
    words = case.words
    if isinstance(words, dict):
        words = cache_words(**({"teacher": teacher, "out": places["out"]} | words))
    capfd.readouterr()
    code = run(*(str(word).format(**places) for word in words))
    errors = [line for line in capfd.readouterr().err.splitlines() if ": error: " in line]
    assert code == case.code
    assert len(errors) == 1
    assert case.says.format(**places) in errors[0]
    assert "Traceback" not in errors[0]
    if places["out"].exists():
        with pytest.raises(StoreError):
            Store.open(places["out"])


@pytest.mark.parametrize("job", ["cache", "correct", "train"])
def test_a_full_disk(job, places, teacher, tmp_path, monkeypatch, capfd):
    """Room runs out after the first few files."""
    out = tmp_path / "out"
    words = {
        "cache": cache_words(teacher, out),
        "correct": ["correct", places["raw"], "--correction", "sort", "--out", out],
        "train": [*TRAIN, "--limit", 160, "--soft-labels", places["raw"], "--out", out],
    }[job]
    write, count = os.write, 0

    def full_later(descriptor, data):
        nonlocal count
        count += 1
        if count > (1 if job == "train" else 30):
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("logitbank.stores.files.local.os.write", full_later)
    assert run(*words) == 1
    monkeypatch.undo()
    assert "error: the disk is full: " in capfd.readouterr().err
    with pytest.raises(StoreError):
        Store.open(out)
    assert not list(out.rglob("*.partial"))
    assert run(*words) == 0


def test_a_disk_that_is_too_small_is_found_out_before_any_work(
    teacher, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("logitbank.stores.files.LocalFiles.free_bytes", lambda files: 1000)
    assert run(*cache_words(teacher, tmp_path / "out")) == 1
    assert "the disk is too full for" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_reader_that_has_had_enough_is_no_failure(raw):
    words = [sys.executable, "-m", "logitbank.jobs.cli", "inspect", str(raw)]
    job = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    job.stdout.close()
    assert job.stderr.read() == b""
    assert job.wait(60) == 128 + signal.SIGPIPE
