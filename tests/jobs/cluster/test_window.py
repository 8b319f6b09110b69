"""The window: how much is out at a time, how large tasks are, and who is blamed for what.

Dask is played by a few lines here; tests of failures beside this file have real ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from distributed.scheduler import KilledWorker
from hypothesis import given
from hypothesis import strategies as st

from logitbank.jobs.cluster import window
from logitbank.jobs.cluster.results import TaskResult
from logitbank.jobs.cluster.window import TaskSizes, Window, count_units, take_groups
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit
from logitbank.stores.units import WrittenUnit

UNITS = [Unit(view, block) for view in range(10) for block in range(3)]
SINGLE = [(unit,) for unit in UNITS]


class Done:
    """A future that has ended."""

    def __init__(self, key: str, outcome: object) -> None:
        self.key, self.outcome = key, outcome
        self.status = "error" if isinstance(outcome, Exception) else "finished"

    def add_done_callback(self, call) -> None:
        call(self)

    def result(self, timeout=None):
        return self.outcome

    def exception(self):
        return self.outcome


@dataclass
class Dask:
    """Workers that take `unit_seconds` for a unit, and die of the units that are deadly."""

    workers: int = 2
    unit_seconds: float = 0.1
    deadly: frozenset[Unit] = frozenset()
    tasks: list[list[Unit]] = field(default_factory=list)
    most_out: int = 0
    accepted: list[Unit] = field(default_factory=list)
    cancelled: int = 0

    def nthreads(self) -> dict[int, int]:
        return dict.fromkeys(range(self.workers), 1)

    def submit(self, number: int, groups) -> Done:
        units = [unit for group in groups for unit in group]
        self.tasks.append(units)
        self.most_out = max(self.most_out, count_units(self.tasks) - len(self.accepted))
        if self.deadly & set(units):
            lost = SimpleNamespace(address="tcp://node7:1234")
            return Done(str(number), KilledWorker("task", lost, 3))
        written = [WrittenUnit(unit, {}) for unit in units]
        return Done(str(number), TaskResult(written, self.unit_seconds * len(units), "node7"))

    def cancel(self, futures, **settings) -> None:
        self.cancelled += len(futures)

    def run(self, groups) -> None:
        def accept(written: WrittenUnit) -> None:
            self.accepted.append(written.unit)

        Window(self, self.submit, accept, patience=0.0).run(groups)  # type: ignore[arg-type]


@given(st.integers(1, 5), st.floats(0.001, 3), st.lists(st.integers(1, 7), min_size=1, max_size=40))
def test_every_unit_is_handed_out_once(workers, unit_seconds, sizes):
    units = iter(Unit(view, block) for block in range(40) for view in range(7))
    groups = [tuple(next(units) for _ in range(size)) for size in sizes]
    dask = Dask(workers, unit_seconds)
    dask.run(groups)
    handed = [unit for task in dask.tasks for unit in task]
    assert handed == dask.accepted == [unit for group in groups for unit in group]


@given(st.integers(1, 9), st.floats(0.001, 3), st.integers(1, 500))
def test_tasks_take_half_a_second_or_more(workers, unit_seconds, count):
    """Save the first task, which tells how long units take, and a whole that is less than that."""
    dask = Dask(workers, unit_seconds)
    dask.run([(Unit(view, 0),) for view in range(count)])
    later = [len(task) * unit_seconds for task in dask.tasks[workers:]]
    assert all(seconds >= 0.4999 for seconds in later) or len(later) == 1


def test_the_end_is_shared_out_among_the_workers():
    sizes = TaskSizes()
    assert sizes.units(waiting=100, workers=4) == 1
    sizes.record(seconds=0.1, units=1)
    # Ten would take a second, five half a second.
    assert sizes.units(waiting=100, workers=4) == 10
    assert sizes.units(waiting=28, workers=4) == 7
    assert sizes.units(waiting=12, workers=4) == 5
    # What would be left is less than half a second: it goes along.
    assert sizes.units(waiting=9, workers=4) == 9


def test_a_first_task_that_compiles_is_soon_forgotten():
    sizes = TaskSizes()
    sizes.record(seconds=20.0, units=1)
    assert sizes.units(waiting=1000, workers=1) == 1
    sizes.record(seconds=0.1, units=1)
    assert sizes.units(waiting=1000, workers=1) == 10
    sizes.record(seconds=3.0, units=10)
    assert sizes.units(waiting=1000, workers=1) == 5


def test_slow_units_are_tasks_of_their_own():
    dask = Dask(unit_seconds=40.0)
    dask.run(SINGLE)
    assert {len(task) for task in dask.tasks} == {1}


def test_groups_stay_whole():
    waiting = deque([tuple(UNITS[:3]), tuple(UNITS[3:6]), tuple(UNITS[6:9])])
    assert count_units(take_groups(waiting, 4)) == 6
    assert len(waiting) == 1


def test_no_more_is_out_than_there_are_workers():
    dask = Dask(workers=3, unit_seconds=10.0)
    dask.run(SINGLE)
    assert dask.most_out == 3


def test_of_a_task_that_kills_its_workers_the_unit_to_blame_is_found():
    guilty = Unit(4, 1)
    dask = Dask(unit_seconds=0.1, deadly=frozenset({guilty}))
    with pytest.raises(LogitbankError) as raised:
        dask.run(SINGLE)
    line = "(view 4, block 1) killed every worker that tried it, the last of them tcp://node7:1234"
    assert line in str(raised.value)
    first = next(task for task in dask.tasks if guilty in task)
    assert len(first) > 1
    # Tried again one by one, and what was innocent is kept.
    alone = [task for task in dask.tasks[dask.tasks.index(first) + 1 :] if task[0] in first]
    assert all(len(task) == 1 for task in alone)
    assert set(first[: first.index(guilty)]) <= set(dask.accepted)


def test_a_task_that_fails_otherwise_is_named_with_its_error():
    class Broken(Dask):
        def submit(self, number, groups):
            super().submit(number, groups)
            return Done(str(number), RuntimeError("CUDA error: an illegal memory access"))

    with pytest.raises(LogitbankError, match=r"\(view 0, block 0\) failed on a worker: RuntimeE"):
        Broken().run(SINGLE)


def test_of_many_units_the_first_are_named():
    units = tuple(UNITS[:5])
    assert window.Task([units], None).name == (  # type: ignore[arg-type]
        "(view 0, block 0), (view 0, block 1), (view 0, block 2) and 2 more"
    )


def test_what_a_task_can_tell_of_itself_is_the_error():
    class Told(Dask):
        def submit(self, number, groups):
            super().submit(number, groups)
            return Done(str(number), TaskResult(None, 0.0, "node7", "photos/17.jpg: truncated"))

    dask = Told()
    with pytest.raises(LogitbankError) as raised:
        dask.run(SINGLE)
    assert str(raised.value) == "photos/17.jpg: truncated"
    # The other worker's task is taken back.
    assert dask.cancelled == 1


def test_a_cluster_may_be_without_workers_for_a_while_only(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(window.time, "monotonic", lambda: clock.now)
    dask = Dask(workers=1)
    workers = window.WorkerCount(dask, patience=30.0)
    for clock.now, dask.workers in ((1, 1), (10, 0), (20, 1), (40, 0), (49, 0)):
        workers.require()
    clock.now = 51.0
    with pytest.raises(LogitbankError, match="all workers are gone, and none has come back in 30"):
        workers.require()
