"""Units computed by processes elsewhere: what each of them opens once, and what a task does.

A job is a small value that pickles. A process opens it once; a task is then a list of groups of
units, and the same task writes the same bytes whoever does it and however often.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from logitbank.pipeline.provenance import shared_versions, version_differences
from logitbank.stores.errors import LogitbankError
from logitbank.stores.manifest import Manifest
from logitbank.stores.units import RemoteUnitWriter, UnitGroup, WrittenUnit

Value = TypeVar("Value")
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class TaskResult(Generic[Value]):
    """What a task tells: a value, or the one line that says why there is none.

    `seconds` is the time that computing took, without opening; `host` says where.
    """

    value: Value | None
    seconds: float
    host: str
    error: str | None = None


class OpenJob(Protocol):
    """A job whose model, datasets or stores a process has opened."""

    def compute(self, groups: Sequence[UnitGroup], created: str) -> list[WrittenUnit]:
        """Compute groups of units into the store that was made at the time `created`."""

    def close(self) -> None:
        """End its threads."""


class Job(Protocol):
    """What a process needs to know to compute units of a store."""

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The names of the modules of the user's own that it imports."""

    def open(self, threads: int) -> OpenJob:
        """Open all that the job reads, to compute with so many threads."""


def run_task(open_job: Callable[[], Opened], work: Callable[[Opened], Value]) -> TaskResult[Value]:
    """Do some work of a job; a failure that a user can act on is a result like any other.

    So its one line reaches the user as it is, whatever carries results from process to process.
    """
    host, seconds = platform.node(), 0.0
    try:
        opened = open_job()
        started = time.perf_counter()
        value = work(opened)
        seconds = time.perf_counter() - started
    except (LogitbankError, OSError) as error:
        return TaskResult(None, seconds, host, str(error) or type(error).__name__)
    return TaskResult(value, seconds, host)


def attached_writer(store: str, manifest: Manifest, created: str) -> RemoteUnitWriter:
    """Find the store of a manifest that was made at a time.

    Raises:
        StoreError: it is not there.
    """
    provenance = dataclasses.replace(manifest.provenance, created=created)
    return RemoteUnitWriter.attach(store, dataclasses.replace(manifest, provenance=provenance))


def require_versions(wanted: Mapping[str, str]) -> None:
    """Require this process to have the packages of the one that made a job.

    Raises:
        LogitbankError: one differs; every one is named.
    """
    differences = version_differences(shared_versions(), wanted)
    if differences:
        raise LogitbankError(
            f"{platform.node()} has other packages than the job: {'; '.join(differences)}: install "
            "the same in both places"
        )


def require_device(name: str) -> None:
    """Require this process to have the device that a job computes on.

    Raises:
        LogitbankError: it hasn't.
    """
    if name == "cpu":
        return
    from logitbank.pipeline.devices import usable_device

    try:
        usable_device(name)
    except LogitbankError as error:
        raise LogitbankError(f"a worker on {platform.node()} can't compute: {error}") from error
