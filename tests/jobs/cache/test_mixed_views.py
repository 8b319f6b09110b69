"""MixUp and CutMix through the whole command line: cached, verified to the ground, taught from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from logitbank.pipeline.views import StoredViews
from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words, same_store

FLAGS = {"views": 2, "limit": 80, "encoding": "float32", "block-rows": 30}
MIXES = ("cifar-weak+mixup:alpha=1", "cifar-strong+cutmix")


@pytest.fixture(scope="module", params=MIXES)
def mixed(request, teacher, tmp_path_factory) -> Path:
    """Two mixed views of the first 80 digits, float32."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.zarr"
    done(*cache_words(teacher, path, augmentation=request.param, **FLAGS))
    return path


def spec_of(store: Path) -> str:
    identity = Store.open(store).manifest.augmentation
    alpha = identity.parameters["alpha"]
    return f"{identity.name}:alpha={alpha}"


def losses_of(run_folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_folder / "metrics.jsonl").open()]


def train_words(store: Path, out: Path, *more: object) -> list[object]:
    words = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--epochs", 2]
    return [*words, "--limit", 80, "--batch-size", 40, "--soft-labels", store, "--out", out, *more]


def test_a_store_of_mixed_views_is_true_to_the_ground(mixed, teacher, capfd):
    done("verify", mixed, "--deep", "--dataset", "digits", "--teacher", teacher, "--json")
    assert json.loads(capfd.readouterr().out)["problems"] == []
    done("inspect", mixed)
    said = capfd.readouterr().out
    assert "partners=80" in said
    assert "the larger share's label is not first in" in said


def test_batches_blocks_and_parts_change_no_view(mixed, teacher, tmp_path):
    """A part sees all samples, so that its own are mixed with those of others."""
    flags = {**FLAGS, "augmentation": spec_of(mixed), "batch-size": 64}
    for part in ("0/2", "1/2"):
        done(*cache_words(teacher, tmp_path / "parts.zarr", **flags, part=part))
    same_store(tmp_path / "parts.zarr", mixed)
    flags |= {"batch-size": 16, "block-rows": 27, "workers": 1}
    done(*cache_words(teacher, tmp_path / "again.zarr", **flags))
    one, other = StoredViews(mixed), StoredViews(tmp_path / "again.zarr")
    for view in range(2):
        assert (one.params(view, range(80)) == other.params(view, range(80))).all()
        assert (one.pixel_crc(view, range(80)) == other.pixel_crc(view, range(80))).all()


def test_a_plan_says_what_it_takes_and_writes_nothing(teacher, tmp_path, capfd):
    out = tmp_path / "none.zarr"
    words = cache_words(teacher, out, augmentation="cifar-weak+mixup", **FLAGS)
    done(*words, "--dry-run")
    assert "2 views of 80 samples: 160 rows" in capfd.readouterr().out
    assert not out.exists()


def test_students_learn_from_it_as_with_the_teacher_in_the_loop(mixed, teacher, tmp_path):
    done(*train_words(mixed, tmp_path / "cached"))
    done(*train_words(mixed, tmp_path / "online", "--teacher", teacher))
    done(*train_words(mixed, tmp_path / "labels", "--loss", "ce"))
    losses = {name: losses_of(tmp_path / name) for name in ("cached", "online", "labels")}
    assert losses["cached"] == losses["online"]
    assert len({tuple(each) for each in losses.values()}) == 2


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_a_correction_is_refused_by_every_job(mixed, tmp_path, capfd, name):
    out = tmp_path / "out"
    correct = ["correct", mixed, "--correction", name, "--out", out]
    jobs = [
        correct,
        [*correct, "--virtual"],
        [*correct, "--dry-run"],
        train_words(mixed, out, "--correction", name),
    ]
    for words in jobs:
        assert run(*words) == 2
        error = capfd.readouterr().err
        assert f"{mixed} can't be corrected: its views are cifar-" in error
        assert "each mixed of two images with a label of its own" in error
        assert error.count("\n") == 1
        assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"augmentation": "cifar-weak+mixpu"}, "did you mean 'mixup'"),
        ({"augmentation": "cifar-weak+mixup:partners=81"}, "drawn from all 80 samples"),
        ({"augmentation": "cifar-weak+cutmix", "views": "all"}, "cutmix has no end of views"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(teacher, tmp_path, capfd, flags, message):
    assert run(*cache_words(teacher, tmp_path / "none.zarr", **FLAGS | flags)) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_setting_and_the_number_of_partners_are_part_of_the_identity(mixed, teacher, capfd):
    for changes in ({"augmentation": "cifar-weak+mixup:alpha=0.3"}, {"limit": 79}):
        flags = {"augmentation": spec_of(mixed), **FLAGS, **changes}
        assert run(*cache_words(teacher, mixed, **flags)) == 1
        error = capfd.readouterr().err
        named = "partners" if "limit" in changes else "alpha"
        assert f"augmentation.parameters.{named}: the store has" in error


def test_another_image_under_the_same_name_and_size_is_found_and_named(teacher, tmp_path, capfd):
    """Of image files: the ids are paths and sizes, so pixels alone can tell."""
    generator = np.random.default_rng(0)
    for sample in range(20):
        path = tmp_path / "photos" / f"class{sample % 10}" / f"{sample:02}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 36, 3), np.uint8)).save(path)
    dataset, store = f"imagefolder:{tmp_path / 'photos'}", tmp_path / "photos.zarr"
    flags = {"dataset": dataset, "augmentation": "imagenet-weak+mixup:alpha=1", "limit": 20}
    done(*cache_words(teacher, store, **FLAGS | flags))
    deep = ["verify", store, "--deep", "--dataset", dataset, "--teacher", teacher]
    done(*deep)
    stored = StoredViews(store)
    params = stored.params(0, range(20))
    share = stored.kind.shares(params)
    sample = next(n for n in range(20) if 0.3 < share[n] < 0.7 and params[n, 0] != n)
    places = sorted((tmp_path / "photos").rglob("*.bmp"))
    changed = places[params[sample, 0]]
    Image.new("RGB", (36, 40), (9, 9, 9)).save(changed)
    capfd.readouterr()
    assert run(*deep) == 1
    assert f"mixed with {changed}" in capfd.readouterr().out
    words = ["train", "--dataset", dataset, "--student", "cifar:resnet8", "--epochs", 1]
    assert run(*words, "--soft-labels", store, "--workers", 0, "--out", tmp_path / "run") == 1
    error = capfd.readouterr().err
    assert "its pixels are not those the teacher saw" in error
    assert str(changed) in error
    assert error.count("logitbank train: error: ") == 1
