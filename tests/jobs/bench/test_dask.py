"""The bench of Dask: what is compared is the same work, and everything is told."""

from __future__ import annotations

import json

import pytest

from logitbank.jobs.bench import dask as bench
from logitbank.jobs.bench.dask import DaskMeasured, DaskSettings, ManyTasks, dask_lines
from logitbank.jobs.bench.dask_tasks import do_nothing, through_the_window
from logitbank.jobs.bench.timing import Spread, ratio
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit
from tests.jobs.command import run


def test_the_bench_prints_one_object_with_all_that_it_measured(capsys, monkeypatch):
    sealed = []
    seal = bench.StoreWriter.seal
    monkeypatch.setattr(
        bench.StoreWriter, "seal", lambda writer: sealed.append(seal(writer)) or sealed[-1]
    )
    words = ["--tasks", 12, "--store-samples", 40, "--store-views", 3, "--rounds", 1]
    assert run("bench", "dask", "--json", *words) == 0
    found = json.loads(capsys.readouterr().out)["dask"]
    assert set(found["task_milliseconds"]) == {"window", "all_at_once"}
    assert found["many_tasks"]["tasks"] == 12
    before, peak = (
        found["many_tasks"][f"scheduler_mebibytes_{name}"] for name in ("before", "peak")
    )
    assert 20 < before <= peak
    here = {"in_process", "in_process_again", "workers_1", "workers_2"}
    ways = here | {"command", "two_parts"}
    assert set(found["rows_per_second"]) == ways
    assert set(found["ratios"]) == ways - {"in_process", "command"}
    # The raw store, and from it the same store by each way, once to warm up and once timed.
    assert len({manifest.digest for manifest in sealed}) == 2
    assert len(sealed) == 1 + 2 * len(here)


def test_each_task_that_does_nothing_is_one_unit():
    result = do_nothing([(Unit(3, 0),)])
    assert [written.unit for written in result.value] == [Unit(3, 0)]
    # So long a time that the window never puts two of them together.
    assert result.seconds > 1


def test_tasks_that_get_lost_are_not_timed(monkeypatch):
    monkeypatch.setattr("logitbank.jobs.cluster.window.Window.run", lambda window, groups: None)
    with pytest.raises(LogitbankError, match="0 of 5 tasks came back"):
        through_the_window(None, 5)


def test_a_measurement_is_written_for_people():
    rates = {"in_process": [100.0, 200.0], "workers_2": [150.0, 320.0]}
    found = DaskMeasured(
        DaskSettings(rounds=2),
        {name: Spread.of([4.0, 5.0]) for name in ("window", "all_at_once")},
        ManyTasks(10_000, 45.0, 80.0, 130.0),
        {name: Spread.of(values) for name, values in rates.items()},
        {"workers_2": ratio(rates["workers_2"], rates["in_process"])},
    )
    text = "\n".join(dask_lines(found))
    assert "through the window  4.50 ± 0.50" in text
    assert "10,000 of them through the window: 45.0 s" in text
    assert "80 MiB before, 130 MiB at its peak" in text
    assert "workers_2" in text
    assert "1.55 ± 0.05" in text
