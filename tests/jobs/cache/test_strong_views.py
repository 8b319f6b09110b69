"""Strong views through the whole command line: cached, verified to the ground, and taught from."""

from __future__ import annotations

import json

import pytest

from logitbank.pipeline.views import StoredViews
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words


@pytest.fixture(scope="module")
def strong(teacher, tmp_path_factory):
    """Two strong views of the first 80 digits, float32, rendered by two threads."""
    path = tmp_path_factory.mktemp("strong") / "strong.zarr"
    changes = {"augmentation": "cifar-strong", "views": 2, "limit": 80, "encoding": "float32"}
    done(*cache_words(teacher, path, workers=2, **changes))
    return path


def test_a_store_of_strong_views_is_true_to_the_ground(strong, teacher, capfd):
    done("verify", strong, "--deep", "--dataset", "digits", "--teacher", teacher, "--json")
    assert json.loads(capfd.readouterr().out)["problems"] == []
    augmentation = StoredViews(strong).kind
    assert augmentation.parameters == {
        "size": 32,
        "pad": 4,
        "flip": True,
        "operations": 2,
        "cutout": True,
    }


def test_threads_blocks_and_batches_change_nothing(strong, teacher, tmp_path):
    changes = {"augmentation": "cifar-strong", "views": 2, "limit": 80, "workers": 1}
    again = tmp_path / "again.zarr"
    done(*cache_words(teacher, again, block_rows=27, batch_size=16, **changes))
    for view in range(2):
        one, other = StoredViews(strong), StoredViews(again)
        assert (one.params(view, range(80)) == other.params(view, range(80))).all()
        assert (one.pixel_crc(view, range(80)) == other.pixel_crc(view, range(80))).all()


def test_a_student_learns_from_it_as_with_the_teacher_in_the_loop(strong, teacher, tmp_path):
    corrected = tmp_path / "corrected.zarr"
    done("correct", strong, "--correction", "sort", "--out", corrected)
    words = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--epochs", 1]
    words += ["--limit", 80, "--batch-size", 40, "--soft-labels"]
    done(*words, corrected, "--out", tmp_path / "cached")
    done(*words, strong, "--out", tmp_path / "raw")
    done(*words, strong, "--teacher", teacher, "--out", tmp_path / "online")
    losses = {
        name: [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("cached", "raw", "online")
    }
    assert losses["raw"] == losses["online"]
    assert losses["cached"] != losses["raw"]
    assert all(len(each) == 1 for each in losses.values())


def test_a_setting_is_part_of_the_stores_identity(strong, teacher, capfd):
    words = {"views": 2, "limit": 80, "encoding": "float32"}
    other = cache_words(teacher, strong, augmentation="cifar-strong:cutout=no", **words)
    assert run(*other) in (1, 2)
    assert "cutout" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"augmentation": "cifar-strong:cutuot=no"}, "did you mean 'cutout'"),
        ({"augmentation": "cifar-strong", "views": "all"}, "cifar-strong has no end of views"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(teacher, tmp_path, capfd, flags, message):
    assert run(*cache_words(teacher, tmp_path / "none.zarr", **flags)) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
