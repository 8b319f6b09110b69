"""What every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Idle OpenMP threads that spin make small operations a hundred times slower beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The tests may themselves be a task of a SLURM array, whose number is no part of their stores.
for variable in [name for name in os.environ if name.startswith("SLURM_ARRAY")]:
    del os.environ[variable]

# A deadline would be an assertion on wall-clock time: the first call of a kernel compiles it.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Give torch back its threads: what a test trains may depend on their number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of real data; users have none, so its tests skip."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the developers' folder of real data is not here")
    return folder
