"""A small teacher and a small store, made once for the tests of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from logitbank.pipeline.models import load_model
from tests.jobs.command import done


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> str:
    """The spec of a teacher for digits: random weights, so wrong in most rows."""
    path = tmp_path_factory.mktemp("teacher") / "resnet8.pt"
    torch.manual_seed(0)
    model = load_model("cifar:resnet8", classes=10)
    torch.save({"model": model.module.state_dict()}, path)
    return f"cifar:resnet8@{path}"


@pytest.fixture(scope="session")
def raw(tmp_path_factory, teacher) -> Path:
    """A raw store of 3 views of the first 160 digits, float16, in blocks of 40."""
    path = tmp_path_factory.mktemp("stores") / "raw.zarr"
    done(*cache_words(teacher, path))
    return path


def cache_words(teacher: str, out: Path, **changes: object) -> list[object]:
    """The words of a small `cache` job, with some flags changed."""
    flags: dict[str, object] = {
        "dataset": "digits",
        "teacher": teacher,
        "augmentation": "cifar-weak:flip=no",
        "views": 3,
        "limit": 160,
        "block-rows": 40,
        "batch-size": 64,
        "out": out,
    }
    given = flags | {name.replace("_", "-"): value for name, value in changes.items()}
    return ["cache", *(word for name, value in given.items() for word in (f"--{name}", value))]
