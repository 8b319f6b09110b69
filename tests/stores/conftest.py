"""A sealed store of the examples, made once, and a copy of it for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.stores.store_examples import write_store


@pytest.fixture(scope="session")
def sealed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "raw.zarr"
    write_store(path)
    return path


@pytest.fixture
def raw(sealed, tmp_path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "raw.zarr"))


@pytest.fixture
def store(raw) -> Path:
    """The same, where nothing else is called a store."""
    return raw
