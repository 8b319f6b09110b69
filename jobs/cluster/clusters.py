"""Opening and closing the Dask cluster that `--cluster` names."""

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
from logitbank.jobs.cluster.spec import (
    ClusterSpec,
    LocalGpus,
    LocalWorkers,
    Queue,
    RunningScheduler,
)
from logitbank.stores.errors import LogitbankError

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_CONNECT = 10.0
SECONDS_TO_CLOSE = 20.0
NOISY = ("distributed", "dask_jobqueue", "dask_cuda", "tornado", "asyncio", "bokeh")
SUBMIT = {"slurm": "sbatch", "pbs": "qsub"}

# A worker keeps memory that it has freed, so one paused above a share of it would stay paused.
# It is only restarted when it is about to exhaust the machine's.
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

    `name` is for messages; `workers` is how many were asked for, None for a cluster that others
    started; `threads` is what each computes with, None for as many as it has; `may_wait` whether
    workers may have to wait in a queue before they start.
    """

    client: Client
    name: str
    workers: int | None = None
    threads: int | None = None
    may_wait: bool = False


@contextmanager
def open_cluster(spec: ClusterSpec) -> Iterator[OpenCluster]:
    """Yield an open cluster; nothing that was started for it keeps running after the `with` block.

    Raises:
        LogitbankError: a package is missing, a scheduler can't be reached, or a cluster can't be
            started; the message says which and what to do.
    """
    with quiet():
        match spec:
            case LocalWorkers():
                opened = _local(spec)
            case RunningScheduler():
                opened = _running(spec.address)
            case Queue():
                opened = _queue(spec)
            case LocalGpus():
                opened = _gpus()
        with opened as cluster:
            yield cluster


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what a user can act on is raised as our errors."""
    import_optional("distributed", "cluster")  # Importing it gives its loggers levels of their own.
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
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C until the `with` block ends; processes started within never receive it.

    A terminal sends it to every process of its group, but only the client should handle it: a
    worker that dies of it would be restarted. Threads and processes inherit blocked signals.
    """
    # Starting the tracker unblocks the signal in this thread, so it has to run before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def import_optional(package: str, extra: str) -> Any:
    """Import an optional package.

    Raises:
        LogitbankError: it is not installed; the message names the extra that installs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise LogitbankError(
            f"--cluster needs {package}, which can't be imported ({error}): "
            f'pip install "logitbank[{extra}]"'
        ) from error


@contextmanager
def _local(spec: LocalWorkers) -> Iterator[OpenCluster]:
    distributed = import_optional("distributed", "cluster")

    def start() -> Any:
        from distributed.system import MEMORY_LIMIT

        return distributed.LocalCluster(
            n_workers=spec.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=MEMORY_LIMIT // spec.workers,
            silence_logs=logging.CRITICAL,
        )

    with _started(start, f"{spec.workers} local workers") as client:
        yield OpenCluster(client, "the local cluster", spec.workers, spec.threads)


@contextmanager
def _gpus() -> Iterator[OpenCluster]:
    cuda = import_optional("dask_cuda", "cuda")
    with _started(
        lambda: cuda.LocalCUDACluster(threads_per_worker=1, silence_logs=logging.CRITICAL),
        "one worker a GPU",
    ) as client:
        workers = len(client.nthreads())
        threads = LocalWorkers(max(1, workers)).threads
        yield OpenCluster(client, "the local GPUs", workers, threads)


@contextmanager
def _queue(spec: Queue) -> Iterator[OpenCluster]:
    jobqueue = import_optional("dask_jobqueue", "cluster")
    submit = SUBMIT[spec.kind]
    if shutil.which(submit) is None:
        raise LogitbankError(
            f"--cluster {spec.kind}:... needs {submit} to submit batch jobs, which is not on this "
            "machine: run it where batch jobs can be submitted, or use --part"
        )
    kind = jobqueue.SLURMCluster if spec.kind == "slurm" else jobqueue.PBSCluster
    settings = spec.settings

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
            client, f"the {spec.kind} cluster", settings.workers, settings.threads, may_wait=True
        )


def _submit(cluster: Any, workers: int) -> None:
    """Submit the batch jobs of the workers; raise if the queue refuses them."""
    from distributed import Status

    cluster.scale(workers)
    cluster.sync(cluster._correct_state)  # Submission goes on in the background.
    refused = [job for job in cluster.workers.values() if job.job_id is None]
    for job in refused:
        job.status = Status.closed  # Closing the cluster requires it.
    if refused:
        # The cause was lost in the background: submit again where it is raised.
        cluster.sync(refused[0].start)


def queue_arguments(settings: QueueSettings) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue's cluster, with one thread per worker."""
    arguments = {
        name: value
        for name, value in vars(settings).items()
        if name != "workers" and value not in (None, [], {})
    }
    exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    return {"job_name": "logitbank", **arguments} | {
        "job_script_prologue": [*exports, *settings.job_script_prologue],
        # The last --nthreads counts: dask-jobqueue gives a worker a thread per core.
        "worker_extra_args": [*settings.worker_extra_args, "--nthreads", "1"],
    }


@contextmanager
def _running(address: str) -> Iterator[OpenCluster]:
    distributed = import_optional("distributed", "cluster")
    try:
        client = distributed.Client(
            address, timeout=SECONDS_TO_CONNECT, set_as_default=True, name="logitbank"
        )
    except Exception as error:  # Sockets, TLS, handshakes with another version: anything.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise LogitbankError(
            f"no Dask scheduler can be reached at {address} within {SECONDS_TO_CONNECT:.0f} s "
            f"({cause}): check that it is running and that it printed this address"
        ) from error
    try:
        yield OpenCluster(client, address)
    finally:
        _close(client)


@contextmanager
def _started(start: Callable[[], Any], what: str) -> Iterator[Client]:
    """Yield the client of a cluster that is started here, and closed at the end of the block."""
    import dask

    with dask.config.set(WORKER_CONFIG), _environment(WORKER_ENVIRONMENT), ExitStack() as stack:
        try:
            with interrupts_blocked():
                cluster = start()
                stack.callback(_close, cluster)
        except LogitbankError:
            raise
        except Exception as error:  # A queue that refuses, no memory, a GPU driver: anything.
            cause = " ".join(str(error).split()) or type(error).__name__
            raise LogitbankError(f"Dask can't start {what}: {cause}") from error
        client = cluster.get_client()
        stack.callback(_close, client)
        yield client


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Change the environment that worker processes inherit, restarted ones included."""
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
    """Close a client or a cluster, ignoring Ctrl-C, so that no process is left behind."""
    with interrupts_blocked():
        opened.close(timeout=SECONDS_TO_CLOSE)
