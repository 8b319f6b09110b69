"""What runs on a worker: the task that it holds, and what it tells of failures."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from logitbank.jobs.cluster.results import run_task
from logitbank.jobs.cluster.worker import TaskPlugin
from logitbank.pipeline.correct import CorrectionTask
from logitbank.stores.errors import DatasetError, StoreError
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import write_store


def test_a_failure_that_a_user_can_act_on_is_a_result():
    result = run_task(lambda: 20, lambda opened: opened + 1)
    assert (result.value, result.error) == (21, None)
    assert result.seconds > 0

    def fails(opened):
        raise DatasetError("photos/17.jpg: truncated")

    result = run_task(lambda: 20, fails)
    assert (result.value, result.error) == (None, "photos/17.jpg: truncated")
    with pytest.raises(ZeroDivisionError):
        run_task(lambda: 0, lambda opened: 1 / opened)


def test_tasks_are_understood_without_torch():
    """A scheduler unpickles tasks: it must not need what workers need."""
    modules = ("logitbank.pipeline.store_task", "logitbank.jobs.cluster.worker")
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_task_is_opened_once_and_writes_into_the_store_of_its_time_alone(tmp_path):
    write_store(tmp_path / "raw.zarr")
    out = str(tmp_path / "out.zarr")
    task = CorrectionTask.of(Store.open(tmp_path / "raw.zarr"), "sort", out)
    writer = StoreWriter.open(out, task.manifest, *task.open().samples)
    plugin = TaskPlugin("a", pickle.dumps(task), out, None, str(tmp_path))
    plugin.setup(SimpleNamespace(state=SimpleNamespace(nthreads=1)))
    opened = plugin.open_task()
    assert plugin.open_task() is opened
    groups = [(unit,) for unit in writer.missing]
    with pytest.raises(StoreError, match="another store is there"):
        plugin.compute(opened, groups, "2031-01-01T00:00:00+00:00")
    created = writer.manifest.provenance.created
    written = plugin.compute(opened, groups, created)
    assert {each.unit for each in written} == set(writer.missing)
    plugin.teardown(SimpleNamespace())
