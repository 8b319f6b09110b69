"""WHERE of `--cluster`: the Dask cluster to compute on, parsed once into a value."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from logitbank.jobs.cluster.queue_settings import QueueSettings, read_queue_settings
from logitbank.jobs.command_line.paths import local_path, location
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

CLUSTER_HELP = (
    "compute on Dask workers: local[:N] processes on this machine, tcp://HOST:PORT of a running "
    "scheduler, slurm:FILE.yaml or pbs:FILE.yaml for a queue, or cuda for one worker per local GPU"
)
KNOWN = ("local", "local:N", "tcp://HOST:PORT", "slurm:FILE.yaml", "pbs:FILE.yaml", "cuda")
MAX_DIGITS = 4
"""Bounds the number of local workers: more than any machine runs."""

SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")


@dataclass(frozen=True)
class LocalWorkers:
    """Worker processes on this machine, which share its cores."""

    workers: int

    @property
    def threads(self) -> int:
        """The number of threads that each worker computes with."""
        return max(1, _cores() // self.workers)


@dataclass(frozen=True)
class RunningScheduler:
    """A scheduler that is already running, with its own workers."""

    address: str


@dataclass(frozen=True)
class Queue:
    """Workers started by a batch system; `kind` is `slurm` or `pbs`."""

    kind: str
    settings: QueueSettings


@dataclass(frozen=True)
class LocalGpus:
    """One worker per GPU of this machine."""


ClusterSpec = LocalWorkers | RunningScheduler | Queue | LocalGpus


def parse_cluster(text: str) -> ClusterSpec:
    """Parse WHERE; the settings file of a queue is read and checked as well.

    >>> parse_cluster("local:3")
    LocalWorkers(workers=3)
    >>> parse_cluster("tcp://node1:8786")
    RunningScheduler(address='tcp://node1:8786')

    Raises:
        UsageError: the form is unknown, or a file can't be read or has an invalid setting.
    """
    kind, colon, rest = text.partition(":")
    if kind in SCHEMES and rest.startswith("//"):
        return RunningScheduler(_address(text))
    if kind == "local":
        return LocalWorkers(_workers(rest, text) if colon else _default_workers())
    if kind == "cuda" and not colon:
        return LocalGpus()
    if kind in ("slurm", "pbs"):
        if not rest:
            raise UsageError(f"--cluster {text!r} names no file: write {kind}:FILE.yaml")
        return Queue(kind, read_queue_settings(kind, Path(location(rest))))
    raise unknown_name("--cluster", text, KNOWN)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--cluster` and `--performance-report`."""
    parser.add_argument("--cluster", type=parse_cluster, metavar="WHERE", help=CLUSTER_HELP)
    parser.add_argument(
        "--performance-report",
        type=local_path,
        metavar="FILE.html",
        help="with --cluster: save Dask's performance report",
    )


def require_report_place(report: str, spec: ClusterSpec | None) -> None:
    """Check that a performance report can be made and saved.

    Args:
        report: its file.
        spec: the cluster, None without one.

    Raises:
        UsageError: there is no cluster, the folder does not exist, or the file is something else.
        LogitbankError: bokeh, which draws reports, is not installed.
    """
    if spec is None:
        raise UsageError("--performance-report is Dask's: it needs --cluster WHERE")
    if not Path(report).absolute().parent.is_dir():
        raise UsageError(f"--performance-report {report}: its folder does not exist")
    if os.path.lexists(report) and not _is_report(Path(report)):
        raise UsageError(
            f"--performance-report {report}: an existing file that is not an HTML page: name "
            "another file"
        )
    if importlib.util.find_spec("bokeh") is None:
        raise LogitbankError(
            "--performance-report is drawn by bokeh, which is not installed: "
            'pip install "logitbank[cluster]"'
        )


def _is_report(path: Path) -> bool:
    """Return whether a path is an empty or HTML file, which a report may replace."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(1000).lower()
    return not start or b"<html" in start


def planned_device(spec: ClusterSpec, device: str | None) -> str | None:
    """Return the device that the workers of a cluster compute on, None to let them choose.

    Args:
        spec: the cluster.
        device: the one asked for.

    Raises:
        UsageError: the device is not CUDA for a cluster of GPUs, or this machine does not have it.
    """
    if isinstance(spec, LocalGpus):
        if device not in (None, "cuda"):
            raise UsageError(f"--cluster cuda computes on cuda, not on --device {device}")
        return "cuda"
    if not isinstance(spec, LocalWorkers):
        return device
    from logitbank.jobs.command_line.opening import open_device

    return open_device(device)


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname and parts.port)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise UsageError(
            f"--cluster {text!r} has no host or port: write tcp://HOST:PORT, as the scheduler "
            "prints it"
        )
    return text


def _workers(text: str, whole: str) -> int:
    if not (text.isdecimal() and len(text) <= MAX_DIGITS and int(text)):
        raise UsageError(
            f"--cluster {whole!r}: N of local:N must be a whole number from 1 on, of at most "
            f"{MAX_DIGITS} digits"
        )
    return int(text)


def _default_workers() -> int:
    """Return the square root of the cores: between a model per core and one for all of them."""
    return math.ceil(math.sqrt(_cores()))


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
