"""`bench dask`: a task's overhead, the gain of workers for `correct`, the scheduler's memory."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.bench.dask_tasks import (
    all_at_once,
    peak_mebibytes,
    separate_scheduler,
    through_the_window,
)
from logitbank.jobs.bench.timing import Slice, Spread, interleave, ratio
from logitbank.jobs.cluster.clusters import open_cluster
from logitbank.jobs.cluster.running import Workers
from logitbank.jobs.cluster.spec import LocalWorkers, RunningScheduler
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.errors import LogitbankError
from logitbank.stores.writer import StoreWriter

if TYPE_CHECKING:
    from logitbank.stores.reader import Store

WINDOW, AT_ONCE = "window", "all_at_once"
IN_PROCESS, IN_PROCESS_AGAIN = "in_process", "in_process_again"
WORKERS = (1, 2)
COMMAND, TWO_PARTS = "command", "two_parts"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DaskSettings:
    """What to measure.

    `tasks` go through the window while the scheduler's memory is measured; a slice of the
    comparison has `slice_tasks`. The store to correct has `samples` x `views` rows of 1,000
    classes.
    """

    tasks: int = 10_000
    slice_tasks: int = 200
    samples: int = 131_072
    views: int = 4
    rounds: int = 7
    folder: str | None = None


@dataclass(frozen=True)
class ManyTasks:
    """Results for tasks that do nothing, with 2 workers and a separate scheduler process."""

    tasks: int
    seconds: float
    scheduler_mebibytes_before: float
    scheduler_mebibytes_peak: float


@dataclass(frozen=True)
class DaskMeasured:
    """Milliseconds per task by way of submission, rows per second by who corrects, and memory.

    `ratios` are relative to one process, whose second slice in each round shows the noise; that of
    parts is relative to the command without them, since both start with Python and its imports.
    """

    settings: DaskSettings
    task_milliseconds: dict[str, Spread]
    many_tasks: ManyTasks
    rows_per_second: dict[str, Spread]
    ratios: dict[str, Spread]

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain objects."""
        return dataclasses.asdict(self)


def measure_dask(
    settings: DaskSettings, progress: Progress = lambda done, total: None
) -> DaskMeasured:
    """Measure in a folder on the disk in question.

    Raises:
        LogitbankError: Dask is not installed, or a cluster can't be started.
    """
    parts, finished = 2, 0

    def within(done: int, total: int) -> None:
        progress(finished * total + done, parts * total)

    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        milliseconds, many = measure_tasks(Path(folder), settings, within)
        finished = 1
        rates = measure_workers(Path(folder), settings, within)
    spreads = {name: Spread.of(values) for name, values in rates.items()}
    compared = rates.keys() - {IN_PROCESS, COMMAND, TWO_PARTS}
    ratios = {name: ratio(rates[name], rates[IN_PROCESS]) for name in rates if name in compared}
    ratios[TWO_PARTS] = ratio(rates[TWO_PARTS], rates[COMMAND])
    return DaskMeasured(settings, milliseconds, many, spreads, ratios)


def measure_tasks(
    folder: Path, settings: DaskSettings, progress: Progress
) -> tuple[dict[str, Spread], ManyTasks]:
    """Measure tasks that do nothing, on 2 workers."""
    with (
        separate_scheduler(folder, workers=2) as address,
        open_cluster(RunningScheduler(address)) as cluster,
    ):
        client = cluster.client
        client.wait_for_workers(2)
        through_the_window(client, 10)
        before = client.run_on_scheduler(peak_mebibytes)
        began = time.perf_counter()
        through_the_window(client, settings.tasks)
        spent = time.perf_counter() - began
        peak = client.run_on_scheduler(peak_mebibytes)
        ways: dict[str, Slice] = {
            WINDOW: lambda: through_the_window(client, settings.slice_tasks),
            AT_ONCE: lambda: all_at_once(client, settings.slice_tasks),
        }
        rates = interleave(ways, settings.rounds, progress=progress)
    milliseconds = {
        name: Spread.of([1e3 / rate for rate in values]) for name, values in rates.items()
    }
    return milliseconds, ManyTasks(settings.tasks, spent, before, peak)


def measure_workers(
    folder: Path, settings: DaskSettings, progress: Progress
) -> dict[str, list[float]]:
    """Measure `correct` in this process, by workers and by parts, each with one thread.

    Workers are started before and have nothing open: in each way, a slice opens the raw store,
    corrects it and seals the result.
    """
    from logitbank.jobs.bench.correct_stores import write_ranked_store
    from logitbank.stores.reader import Store

    raw = folder / "raw.zarr"
    write_ranked_store(raw, settings.samples, 1000, settings.views)
    parent, rows = Store.open(raw), settings.samples * settings.views
    with ExitStack() as stack:
        ways: dict[str, Slice] = {}
        for name in (IN_PROCESS, IN_PROCESS_AGAIN):
            ways[name] = _here(parent, folder / name, rows)
        for count in WORKERS:
            cluster = stack.enter_context(open_cluster(LocalWorkers(count)))
            workers = Workers(dataclasses.replace(cluster, threads=1), "cpu", "cpu")
            name = f"workers_{count}"
            ways[name] = _on(workers, raw, parent, folder / name, rows)
        ways[COMMAND] = _commands(raw, folder / COMMAND, rows, [[]])
        parts = [["--part", f"{index}/2"] for index in range(2)]
        ways[TWO_PARTS] = _commands(raw, folder / TWO_PARTS, rows, parts)

        def clear(name: str) -> None:
            shutil.rmtree(folder / name, ignore_errors=True)

        for name, work in ways.items():
            work()
            clear(name)
        return interleave(ways, settings.rounds, prepare=clear, progress=progress)


def _here(parent: Store, out: Path, rows: int) -> Slice:
    from logitbank.pipeline.correct import CorrectionTask

    def work() -> int:
        fill_store(CorrectionTask.of(parent, "sort", str(out), threads=1))
        return rows

    return work


def _on(workers: Workers, raw: Path, parent: Store, out: Path, rows: int) -> Slice:
    from logitbank.pipeline.correct import CorrectionTask

    def work() -> int:
        task = CorrectionTask.of(parent, "sort", str(out), location=str(raw))
        opened = task.open()
        writer = StoreWriter.open(out, task.manifest, *opened.samples)
        with workers.task(task) as shared:
            groups = opened.groups(writer.missing)
            shared.compute(groups, writer, lambda done, total: None)
        opened.seal(writer)
        return rows

    return work


def _commands(raw: Path, out: Path, rows: int, flags: list[list[str]]) -> Slice:
    """Return work that runs `correct` as commands in parallel, each with its own flags."""
    command = ["correct", str(raw), "--correction", "sort", "--threads", "1", "--out", str(out)]

    def work() -> int:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "logitbank.jobs.cli", *command, *own],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for own in flags
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise LogitbankError(f"{' '.join(command)} failed")
        return rows

    return work


def dask_lines(found: DaskMeasured) -> list[str]:
    """Return the measurement as lines of text."""
    settings, many, tasks = found.settings, found.many_tasks, found.task_milliseconds
    lines = [
        f"bench dask: tasks that do nothing, 2 workers, {settings.rounds} rounds of "
        f"{settings.slice_tasks:,}: milliseconds a task",
        f"  through the window  {tasks[WINDOW]:.2f}",
        f"  all at once         {tasks[AT_ONCE]:.2f}",
        f"{many.tasks:,} of them through the window: {many.seconds:.1f} s; the scheduler's memory "
        f"{many.scheduler_mebibytes_before:.0f} MiB before, {many.scheduler_mebibytes_peak:.0f} "
        "MiB at its peak",
        f"correct --correction sort, {settings.views} views of {settings.samples:,} x 1,000 in "
        "float16, workers of one thread: rows/s",
    ]
    for name, rate in found.rows_per_second.items():
        of = COMMAND if name == TWO_PARTS else IN_PROCESS
        relative = f", {found.ratios[name]:.2f} of {of}" if name in found.ratios else ""
        lines.append(f"  {name:<17} {rate:,.0f}{relative}")
    return lines
