"""A small teacher and a small store, made once for the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from logitbank.pipeline.models import load_model
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.cluster.cluster_processes import Scheduler, scheduler
from tests.jobs.command import done

UNITS = 12
"""Of the raw store below, and of a corrected one."""


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


@pytest.fixture(scope="session")
def corrected(raw, tmp_path_factory) -> Path:
    """The raw store, sorted."""
    path = tmp_path_factory.mktemp("corrected") / "sort.zarr"
    done(*correct_words(raw, path))
    return path


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Scheduler]:
    """One scheduler and two workers, real processes in a folder of their own."""
    with scheduler(tmp_path_factory.mktemp("cluster"), workers=2) as found:
        yield found


def correct_words(raw: object, out: object, *more: object) -> list[object]:
    """The words of a job that sorts a raw store, with more of them behind."""
    return ["correct", raw, "--correction", "sort", "--out", out, *more]


def ledger(store: Path) -> dict[Path, int]:
    """The units that are there, each with the time it was written."""
    return {
        path.relative_to(store): path.stat().st_mtime_ns for path in store.glob("logits/c/*/*/0")
    }


def same_store(one: Path, other: Path) -> None:
    """Require two stores to be good, with the same files, but for the manifest, and digest."""
    assert verify_store(one) == []
    assert Store.open(one).manifest.digest == Store.open(other).manifest.digest
    files = {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    assert {path.relative_to(one) for path in one.rglob("*") if path.is_file()} == files
    for name in files - {Path("zarr.json")}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


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
