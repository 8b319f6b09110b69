"""Submitting Dask tasks: few at a time, each worth its overhead, and interpreting failures.

Dask blames a worker's death on every task that the worker has. So there is about one task per
worker at a time, and a task of several units that keeps killing its workers is tried again unit by
unit, alone on the cluster, until the unit to blame is known.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from distributed import Future
from distributed.scheduler import KilledWorker

from logitbank.jobs.cluster.results import TaskResult
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit
from logitbank.stores.units import UnitGroup, WrittenUnit

if TYPE_CHECKING:
    from distributed import Client

MIN_TASK_SECONDS, TARGET_TASK_SECONDS = 0.5, 1.0
SECONDS_BETWEEN_POLLS = 1.0
SECONDS_WITHOUT_WORKERS = 30.0
NAMED_UNITS = 3

Groups = Sequence[UnitGroup]


class TaskSizes:
    """Chooses how many units make a task, by the time that units have taken so far."""

    def __init__(self) -> None:
        self._unit_seconds: float | None = None

    def record(self, seconds: float, units: int) -> None:
        """Record how long some units took; recent ones weigh most.

        A faster unit replaces the estimate: a worker's first task compiles kernels and fills
        caches.
        """
        found = max(seconds / units, 1e-6)
        known = self._unit_seconds or found
        self._unit_seconds = found if found < known else (known + found) / 2

    def units(self, waiting: int, workers: int) -> int:
        """Return the number of units for the next task.

        A task takes about a second, and at least half a second, since submitting it costs a few
        milliseconds. Within these bounds the last units are spread evenly over the workers. Until
        the time of a unit is known, a task is one unit.
        """
        if self._unit_seconds is None:
            return 1
        least = math.ceil(MIN_TASK_SECONDS / self._unit_seconds)
        wanted = math.ceil(TARGET_TASK_SECONDS / self._unit_seconds)
        count = max(least, min(wanted, math.ceil(waiting / workers)))
        return waiting if waiting - count < least else count


def take_groups(waiting: deque[UnitGroup], units: int) -> list[UnitGroup]:
    """Take at least one group, until they have at least `units` units; groups are never split.

    >>> waiting = deque([(Unit(0, 0), Unit(1, 0)), (Unit(0, 1), Unit(1, 1)), (Unit(0, 2),)])
    >>> len(take_groups(waiting, 3)), len(waiting)
    (2, 1)
    """
    taken = [waiting.popleft()]
    while waiting and count_units(taken) < units:
        taken.append(waiting.popleft())
    return taken


def count_units(groups: Iterable[UnitGroup]) -> int:
    """Return the number of units in some groups."""
    return sum(map(len, groups))


@dataclass(frozen=True)
class Task:
    """A submitted Dask task: some groups of units, and the future of their result."""

    groups: Groups
    future: Future

    @property
    def units(self) -> list[Unit]:
        """The units of its groups."""
        return [unit for group in self.groups for unit in group]

    @property
    def name(self) -> str:
        """Its units, or the first of many, for error messages."""
        names = [f"(view {unit.view}, block {unit.block})" for unit in self.units]
        more = len(names) - NAMED_UNITS
        return ", ".join(names[:NAMED_UNITS]) + (f" and {more} more" if more > 0 else "")


class Window:
    """Submits groups of units to the workers of a cluster, a few at a time.

    Args:
        client: of the cluster.
        submit: submits groups as a Dask task with a unique number.
        accept: called with each unit that a worker has written.
        patience: seconds that the cluster may be without any worker.
    """

    def __init__(
        self,
        client: Client,
        submit: Callable[[int, Groups], Future],
        accept: Callable[[WrittenUnit], None],
        patience: float,
    ) -> None:
        self._client, self._submit, self._accept = client, submit, accept
        self._workers = WorkerCount(client, patience)
        self._sizes = TaskSizes()
        self._waiting: deque[UnitGroup] = deque()
        self._waiting_units = 0
        self._suspects: deque[UnitGroup] = deque()
        self._out: dict[str, Task] = {}
        self._finished: SimpleQueue[Future] = SimpleQueue()
        self._submitted = 0

    def run(self, groups: Groups) -> None:
        """Have every group computed, roughly in this order.

        Raises:
            LogitbankError: a task fails (with its own message) or keeps killing its workers; all
                workers are gone, or the scheduler is.
        """
        self._waiting.extend(groups)
        self._waiting_units = count_units(groups)
        try:
            while self._waiting or self._suspects or self._out:
                self._fill()
                self._take(self._next_finished())
        finally:
            self._let_go()

    def _fill(self) -> None:
        """Submit tasks up to one per worker; a suspect runs alone, when all others are done."""
        if self._suspects:
            if not self._out:
                self._hand_out([self._suspects.popleft()])
            return
        while self._waiting and len(self._out) < max(1, self._workers.count()):
            units = self._sizes.units(self._waiting_units, max(1, self._workers.count()))
            taken = take_groups(self._waiting, units)
            self._waiting_units -= count_units(taken)
            self._hand_out(taken)

    def _hand_out(self, groups: Groups) -> None:
        self._submitted += 1
        future = self._submit(self._submitted, groups)
        self._out[str(future.key)] = Task(groups, future)
        future.add_done_callback(self._finished.put)

    def _next_finished(self) -> Future:
        while True:
            try:
                return self._finished.get(timeout=SECONDS_BETWEEN_POLLS)
            except Empty:
                self._workers.require()

    def _take(self, future: Future) -> None:
        """Handle a task that has ended, by its status."""
        task, status = self._out[str(future.key)], future.status
        if status == "finished":
            self._take_result(task)
        elif status == "pending":
            # Its worker died before the result was fetched; Dask computes it again.
            future.add_done_callback(self._finished.put)
        elif status == "cancelled":
            raise LogitbankError(
                f"the scheduler is gone, or has dropped {task.name}: run the same command again to "
                "go on from here"
            )
        else:
            self._take_failure(task)

    def _take_result(self, task: Task) -> None:
        try:
            result: TaskResult[list[WrittenUnit]] = task.future.result(SECONDS_BETWEEN_POLLS)
        except TimeoutError:
            self._workers.require()
            task.future.add_done_callback(self._finished.put)
            return
        except Exception:
            # It was lost and has failed since then; its new status says how.
            task.future.add_done_callback(self._finished.put)
            return
        del self._out[str(task.future.key)]
        if result.value is None:
            raise LogitbankError(result.error)
        self._sizes.record(result.seconds, len(result.value))
        for written in result.value:
            self._accept(written)

    def _take_failure(self, task: Task) -> None:
        del self._out[str(task.future.key)]
        error = task.future.exception()
        if not isinstance(error, KilledWorker):
            raise LogitbankError(
                f"{task.name} failed on a worker: {type(error).__name__}: {error}"
            ) from error
        if len(task.units) > 1:
            self._suspects.extend((unit,) for unit in task.units)
            return
        raise LogitbankError(
            f"{task.name} killed every worker that tried it, the last of them "
            f"{error.last_worker.address}: a worker that runs out of memory is killed (lower "
            "--batch-size or --block-rows, or give workers more memory)"
        )

    def _let_go(self) -> None:
        """Cancel the tasks that are still out; those that already run end by themselves."""
        futures = [task.future for task in self._out.values()]
        self._out.clear()
        # The cluster may be gone, which is already being reported.
        with contextlib.suppress(Exception):
            if futures:
                self._client.cancel(futures, asynchronous=False)


class WorkerCount:
    """The number of workers, queried at most once a second."""

    def __init__(self, client: Client, patience: float) -> None:
        self._client, self._patience = client, patience
        self._count, self._asked, self._seen = 0, -math.inf, time.monotonic()

    def count(self) -> int:
        """Return the number of workers, at most a second old."""
        now = time.monotonic()
        if now - self._asked >= SECONDS_BETWEEN_POLLS:
            self._count, self._asked = count_workers(self._client), now
            if self._count:
                self._seen = now
        return self._count

    def require(self) -> None:
        """Check that there are workers, or were recently: one may be restarting.

        Raises:
            LogitbankError: there have been none for longer than `patience`.
        """
        if not self.count() and time.monotonic() - self._seen > self._patience:
            raise LogitbankError(
                f"all workers are gone, and none has come back in {self._patience:.0f} s: what "
                "they have written is kept, run the same command again to go on from here"
            )


def count_workers(client: Client) -> int:
    """Return the number of a cluster's workers, 0 if the scheduler doesn't answer."""
    try:
        return len(client.nthreads())
    except Exception:  # It is closing, gone or unreachable: each raises errors of its own.
        return 0
