"""A small dataset, a teacher of it and their stores, made once for each file of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.soft_labels import SoftLabels
from tests.pipeline.student.student_examples import (
    small_dataset,
    small_pair,
    small_store,
    small_teacher,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("student")


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return small_dataset()


@pytest.fixture(scope="module")
def evaluation() -> MemoryDataset:
    return small_dataset(40, split="test", seed=1)


@pytest.fixture(scope="module")
def teacher(folder) -> LoadedModel:
    return small_teacher(folder)


@pytest.fixture(scope="module")
def soft(folder, dataset, teacher) -> SoftLabels:
    return small_store(folder / "raw.zarr", dataset, teacher)


@pytest.fixture(scope="module")
def pair(folder, dataset, teacher) -> tuple[SoftLabels, SoftLabels]:
    return small_pair(folder, dataset, teacher)
