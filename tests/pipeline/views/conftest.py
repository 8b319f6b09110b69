"""A dataset in memory, made once for each file of tests."""

from __future__ import annotations

import pytest

from logitbank.pipeline.datasets.in_memory import MemoryDataset
from tests.pipeline.views.view_examples import memory_dataset


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    return memory_dataset()
