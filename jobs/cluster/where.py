"""WHERE: which Dask cluster a job is to run on, parsed once into a value."""

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
    "compute on Dask workers: local[:N] processes here, tcp://HOST:PORT of a scheduler that runs, "
    "slurm:FILE.yaml or pbs:FILE.yaml for a queue, or cuda, one worker a GPU here"
)
KNOWN = ("local", "local:N", "tcp://HOST:PORT", "slurm:FILE.yaml", "pbs:FILE.yaml", "cuda")
MOST_DIGITS = 4
"""Of the number of local workers: more processes than any machine is asked for."""

SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")


@dataclass(frozen=True)
class LocalWorkers:
    """Worker processes of this machine, which share its cores."""

    workers: int

    @property
    def threads(self) -> int:
        """The threads that each computes with."""
        return max(1, _cores() // self.workers)


@dataclass(frozen=True)
class RunningScheduler:
    """A scheduler that somebody has started, with workers of its own."""

    address: str


@dataclass(frozen=True)
class Queue:
    """Workers that a batch system starts: `kind` is `slurm` or `pbs`."""

    kind: str
    settings: QueueSettings


@dataclass(frozen=True)
class LocalGpus:
    """One worker for each GPU of this machine."""


Where = LocalWorkers | RunningScheduler | Queue | LocalGpus


def parse_where(text: str) -> Where:
    """Read WHERE; a queue's file is read and checked as well.

    >>> parse_where("local:3")
    LocalWorkers(workers=3)
    >>> parse_where("tcp://node1:8786")
    RunningScheduler(address='tcp://node1:8786')

    Raises:
        UsageError: another form, or a file that can't be read or holds a wrong setting.
    """
    kind, colon, rest = text.partition(":")
    if kind in SCHEMES and rest.startswith("//"):
        return RunningScheduler(_address(text))
    if kind == "local":
        return LocalWorkers(_workers(rest, text) if colon else _usual_workers())
    if kind == "cuda" and not colon:
        return LocalGpus()
    if kind in ("slurm", "pbs"):
        if not rest:
            raise UsageError(f"--cluster {text!r} names no file: {kind}:FILE.yaml")
        return Queue(kind, read_queue_settings(kind, Path(location(rest))))
    raise unknown_name("--cluster", text, KNOWN)


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--cluster` and `--performance-report`."""
    parser.add_argument("--cluster", type=parse_where, metavar="WHERE", help=CLUSTER_HELP)
    parser.add_argument(
        "--performance-report",
        type=local_path,
        metavar="FILE.html",
        help="with --cluster: save Dask's own report of where the time went",
    )


def require_report_place(report: str, where: Where | None) -> None:
    """Check that a report of a cluster's work can be made and saved.

    Args:
        report: its file.
        where: the cluster, if there is one.

    Raises:
        UsageError: there is no cluster, or no folder for the file, or something else lies there.
        LogitbankError: bokeh, which draws reports, is not installed.
    """
    if where is None:
        raise UsageError("--performance-report is Dask's: it takes --cluster WHERE")
    if not Path(report).absolute().parent.is_dir():
        raise UsageError(f"--performance-report {report}: there is no such folder")
    if os.path.lexists(report) and not _is_report(Path(report)):
        raise UsageError(
            f"--performance-report {report}: something else than an HTML page is there already: "
            "name another file"
        )
    if importlib.util.find_spec("bokeh") is None:
        raise LogitbankError(
            "--performance-report is drawn by bokeh, which is not installed: "
            'pip install "logitbank[cluster]"'
        )


def _is_report(path: Path) -> bool:
    """Return whether a path is an HTML file, which a report may replace."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        begin = file.read(1000).lower()
    return not begin or b"<html" in begin


def planned_device(where: Where, device: str | None) -> str | None:
    """Return the name of the device that a cluster's workers compute on.

    Args:
        where: the cluster.
        device: the one asked for.

    Returns:
        None where the workers are to tell.

    Raises:
        UsageError: another device than a cluster of GPUs has, or one that is not here.
    """
    if isinstance(where, LocalGpus):
        if device not in (None, "cuda"):
            raise UsageError(f"--cluster cuda computes on cuda, not on --device {device}")
        return "cuda"
    if not isinstance(where, LocalWorkers):
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
            f"--cluster {text!r} has no host or port: tcp://HOST:PORT, as the scheduler prints"
        )
    return text


def _workers(text: str, whole: str) -> int:
    if not (text.isdecimal() and len(text) <= MOST_DIGITS and int(text)):
        raise UsageError(
            f"--cluster {whole!r}: local:N takes a whole number of at least 1, of {MOST_DIGITS} "
            "digits at most"
        )
    return int(text)


def _usual_workers() -> int:
    """Choose between a model for each core and one for all: the square root of the cores."""
    return math.ceil(math.sqrt(_cores()))


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
