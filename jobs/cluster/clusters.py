"""Opening what WHERE names: a client of a Dask cluster, and what must be closed behind it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from logitbank.jobs.cluster.queue_settings import QueueSettings
from logitbank.jobs.cluster.where import LocalGpus, LocalWorkers, Queue, RunningScheduler, Where
from logitbank.stores.errors import LogitbankError

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_CONNECT = 10.0
SECONDS_TO_CLOSE = 20.0
NOISY = ("distributed", "dask_jobqueue", "dask_cuda", "tornado", "asyncio", "bokeh")
SUBMIT = {"slurm": "sbatch", "pbs": "qsub"}

# A worker keeps the memory that it has freed, so pausing above a share of it would last for ever.
# It is restarted only where it is about to take the machine's.
WORKER_CONFIG = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
WORKER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
}


@dataclass(frozen=True)
class OpenCluster:
    """A client and what is known of its workers.

    `name` is for messages; `workers` is how many were asked for, None where that is not ours to
    say; `threads` what each computes with, None for as many as it has. `may_wait` says that workers
    come when a queue lets them.
    """

    client: Client
    name: str
    workers: int | None = None
    threads: int | None = None
    may_wait: bool = False


@contextmanager
def open_cluster(where: Where) -> Iterator[OpenCluster]:
    """Open a cluster for the time of a `with` block; nothing is left running behind it.

    Raises:
        LogitbankError: a package is missing, a scheduler can't be reached, or a cluster can't be
            started; the message says which and what to do.
    """
    with quiet():
        match where:
            case LocalWorkers():
                opened = _local(where)
            case RunningScheduler():
                opened = _running(where.address)
            case Queue():
                opened = _queue(where)
            case LocalGpus():
                opened = _gpus()
        with opened as cluster:
            yield cluster


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's own log from the terminal: what a user can act on is told as our errors."""
    import_of("distributed", "cluster")  # Importing it gives its loggers levels of their own.
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in NOISY]
    loggers = [logging.getLogger(name) for name in {*names, *NOISY}]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", module="distributed|dask_jobqueue|dask_cuda|contextlib"
            )
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends; processes started within never see it.

    A terminal sends it to every process of its group, but it is the client's alone to handle: a
    worker that dies of it would be restarted. Threads and processes inherit what is held back.
    """
    # Python lets it through again in the thread that starts this helper of its own.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def import_of(package: str, extra: str) -> Any:
    """Import an optional package.

    Raises:
        LogitbankError: it is not installed; the extra that brings it is named.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise LogitbankError(
            f"--cluster needs {package}, which can't be imported ({error}): "
            f'pip install "logitbank[{extra}]"'
        ) from error


@contextmanager
def _local(where: LocalWorkers) -> Iterator[OpenCluster]:
    distributed = import_of("distributed", "cluster")

    def start() -> Any:
        from distributed.system import MEMORY_LIMIT

        return distributed.LocalCluster(
            n_workers=where.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=MEMORY_LIMIT // where.workers,
            silence_logs=logging.CRITICAL,
        )

    with _started(start, f"{where.workers} local workers") as client:
        yield OpenCluster(client, "the local cluster", where.workers, where.threads)


@contextmanager
def _gpus() -> Iterator[OpenCluster]:
    cuda = import_of("dask_cuda", "cuda")
    with _started(
        lambda: cuda.LocalCUDACluster(threads_per_worker=1, silence_logs=logging.CRITICAL),
        "one worker a GPU",
    ) as client:
        workers = len(client.nthreads())
        threads = LocalWorkers(max(1, workers)).threads
        yield OpenCluster(client, "the local GPUs", workers, threads)


@contextmanager
def _queue(where: Queue) -> Iterator[OpenCluster]:
    jobqueue = import_of("dask_jobqueue", "cluster")
    submit = SUBMIT[where.kind]
    if shutil.which(submit) is None:
        raise LogitbankError(
            f"--cluster {where.kind}:... submits jobs by {submit}, which is not on this machine: "
            "run it where jobs are submitted, or use cache --part"
        )
    kind = jobqueue.SLURMCluster if where.kind == "slurm" else jobqueue.PBSCluster
    settings = where.settings

    def start() -> Any:
        cluster = kind(**queue_arguments(settings), silence_logs=logging.CRITICAL)
        try:
            _submit(cluster, settings.workers)
        except BaseException:
            cluster.close(timeout=SECONDS_TO_CLOSE)
            raise
        return cluster

    with _started(start, f"{settings.workers} workers by {submit}") as client:
        yield OpenCluster(
            client, f"the {where.kind} cluster", settings.workers, settings.threads, may_wait=True
        )


def _submit(cluster: Any, workers: int) -> None:
    """Submit a queue's jobs, and require it to have taken them."""
    from distributed import Status

    cluster.scale(workers)
    cluster.sync(cluster._correct_state)  # Submitting goes on in the background.
    refused = [job for job in cluster.workers.values() if job.job_id is None]
    for job in refused:
        job.status = Status.closed  # A cluster that is closed requires it of its jobs.
    if refused:
        # Why was lost in the background: once more, where it is raised.
        cluster.sync(refused[0].start)


def queue_arguments(settings: QueueSettings) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue's cluster: one thread a worker, and its environment."""
    arguments = {
        name: value
        for name, value in vars(settings).items()
        if name != "workers" and value not in (None, [], {})
    }
    exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    return {"job_name": "logitbank", **arguments} | {
        "job_script_prologue": [*exports, *settings.job_script_prologue],
        # The last one counts: dask-jobqueue gives a worker a thread for each core.
        "worker_extra_args": [*settings.worker_extra_args, "--nthreads", "1"],
    }


@contextmanager
def _running(address: str) -> Iterator[OpenCluster]:
    distributed = import_of("distributed", "cluster")
    try:
        client = distributed.Client(
            address, timeout=SECONDS_TO_CONNECT, set_as_default=True, name="logitbank"
        )
    except Exception as error:  # Sockets, TLS, handshakes of another version: all end here.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise LogitbankError(
            f"no Dask scheduler can be reached at {address} within {SECONDS_TO_CONNECT:.0f} s "
            f"({cause}): is it running, and is this the address that it printed?"
        ) from error
    try:
        yield OpenCluster(client, address)
    finally:
        _close(client)


@contextmanager
def _started(start: Callable[[], Any], what: str) -> Iterator[Client]:
    """Start a cluster of our own and close it with its client."""
    import dask

    with dask.config.set(WORKER_CONFIG), _environment(WORKER_ENVIRONMENT), ExitStack() as stack:
        try:
            with interrupts_held_back():
                cluster = start()
                stack.callback(_close, cluster)
        except LogitbankError:
            raise
        except Exception as error:  # A queue that refuses, no memory, a driver: all end here.
            cause = " ".join(str(error).split()) or type(error).__name__
            raise LogitbankError(f"Dask can't start {what}: {cause}") from error
        client = cluster.get_client()
        stack.callback(_close, client)
        yield client


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Change the environment that processes inherit, also those that are started again."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _close(opened: Any) -> None:
    """Close a client or a cluster to the end: who is impatient would leave processes behind."""
    with interrupts_held_back():
        opened.close(timeout=SECONDS_TO_CLOSE)
