"""Handing tasks out: few at a time, each long enough to be worth it, and what failures mean.

Dask holds a worker's death against every task that is on the worker then. So about one task a
worker is out at a time, and a task of several units that keeps killing its workers is tried again
unit by unit, alone on the cluster, until the one to blame is known.
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

LEAST_SECONDS, WANTED_SECONDS = 0.5, 1.0
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_WITHOUT_WORKERS = 30.0
NAMED_UNITS = 3

Groups = Sequence[UnitGroup]


class TaskSizes:
    """How many units make a task, from what units have taken so far."""

    def __init__(self) -> None:
        self._unit_seconds: float | None = None

    def told(self, seconds: float, units: int) -> None:
        """Learn how long some units took; the latest count most.

        What was slower counts no more: a worker's first task compiles kernels and fills caches.
        """
        found = max(seconds / units, 1e-6)
        known = self._unit_seconds or found
        self._unit_seconds = found if found < known else (known + found) / 2

    def units(self, waiting: int, workers: int) -> int:
        """Return the number of units for the next task.

        A task takes about a second, half a second at least: handing it out costs a few
        milliseconds. Within that, what is waiting is shared out evenly at the end. Until the first
        task has told how long a unit takes, a task is one.
        """
        if self._unit_seconds is None:
            return 1
        least = math.ceil(LEAST_SECONDS / self._unit_seconds)
        wanted = math.ceil(WANTED_SECONDS / self._unit_seconds)
        count = max(least, min(wanted, math.ceil(waiting / workers)))
        return waiting if waiting - count < least else count


def take_groups(waiting: deque[UnitGroup], units: int) -> list[UnitGroup]:
    """Take groups of at least so many units, one group at least; groups stay whole.

    >>> waiting = deque([(Unit(0, 0), Unit(1, 0)), (Unit(0, 1), Unit(1, 1)), (Unit(0, 2),)])
    >>> len(take_groups(waiting, 3)), len(waiting)
    (2, 1)
    """
    taken = [waiting.popleft()]
    while waiting and count_units(taken) < units:
        taken.append(waiting.popleft())
    return taken


def count_units(groups: Iterable[UnitGroup]) -> int:
    """Count the units of some groups."""
    return sum(map(len, groups))


@dataclass(frozen=True)
class Task:
    """What has been handed out: some groups, and Dask's promise of their result."""

    groups: Groups
    future: Future

    @property
    def units(self) -> list[Unit]:
        """Its units."""
        return [unit for group in self.groups for unit in group]

    @property
    def name(self) -> str:
        """Its units, the first of many, as an error names them."""
        names = [f"(view {unit.view}, block {unit.block})" for unit in self.units]
        more = len(names) - NAMED_UNITS
        return ", ".join(names[:NAMED_UNITS]) + (f" and {more} more" if more > 0 else "")


class Window:
    """Hands the units of a job out to a cluster's workers.

    Args:
        client: of the cluster.
        submit: hands groups out under a number that tells each task from the others.
        accept: called with each unit that a worker has written.
        patience: seconds that a cluster may be without any worker, once or again.
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
        """Have every group computed, in about this order.

        Raises:
            LogitbankError: a task can't do its work (its own line), keeps killing its workers, or
                fails otherwise; every worker is gone, or the scheduler is.
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
        """Hand out a task a worker; a suspect goes out alone, when all others are back."""
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
                return self._finished.get(timeout=SECONDS_BETWEEN_LOOKS)
            except Empty:
                self._workers.require()

    def _take(self, future: Future) -> None:
        """Take a task that has ended, one way or the other."""
        task, status = self._out[str(future.key)], future.status
        if status == "finished":
            self._take_result(task)
        elif status == "pending":
            # Its worker died with the result before it was fetched; Dask computes it again.
            future.add_done_callback(self._finished.put)
        elif status == "cancelled":
            raise LogitbankError(
                f"the scheduler is gone, or has dropped {task.name}; the same command again goes "
                "on from here"
            )
        else:
            self._take_failure(task)

    def _take_result(self, task: Task) -> None:
        try:
            result: TaskResult[list[WrittenUnit]] = task.future.result(SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            self._workers.require()
            task.future.add_done_callback(self._finished.put)
            return
        except Exception:
            # It was lost and has failed since; its status says how.
            task.future.add_done_callback(self._finished.put)
            return
        del self._out[str(task.future.key)]
        if result.value is None:
            raise LogitbankError(result.error)
        self._sizes.told(result.seconds, len(result.value))
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
            f"{task.name} killed every worker that tried it, {error.last_worker.address} last: a "
            "worker that runs out of memory is killed (lower --batch-size or --block-rows, or give "
            "workers more memory)"
        )

    def _let_go(self) -> None:
        """Take back what is still out; what runs already ends by itself."""
        futures = [task.future for task in self._out.values()]
        self._out.clear()
        # The cluster may be gone, which is told already.
        with contextlib.suppress(Exception):
            if futures:
                self._client.cancel(futures, asynchronous=False)


class WorkerCount:
    """How many workers there are, asked for once a second at most."""

    def __init__(self, client: Client, patience: float) -> None:
        self._client, self._patience = client, patience
        self._count, self._asked, self._seen = 0, -math.inf, time.monotonic()

    def count(self) -> int:
        """Return the number of workers, as of the last second."""
        now = time.monotonic()
        if now - self._asked >= SECONDS_BETWEEN_LOOKS:
            self._count, self._asked = count_workers(self._client), now
            if self._count:
                self._seen = now
        return self._count

    def require(self) -> None:
        """Check that there are workers, or were a short time ago: one may be starting again.

        Raises:
            LogitbankError: there have been none for long.
        """
        if not self.count() and time.monotonic() - self._seen > self._patience:
            raise LogitbankError(
                f"all workers are gone, and none has come back for {self._patience:.0f} s; what "
                "they have written is kept, the same command again goes on from here"
            )


def count_workers(client: Client) -> int:
    """Count a cluster's workers, none where the scheduler doesn't answer."""
    try:
        return len(client.nthreads())
    except Exception:  # It is closing, away or cut off: each way has errors of its own.
        return 0
