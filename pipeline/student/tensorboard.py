"""A run's metrics as TensorBoard events."""

from __future__ import annotations

import io
import logging
import os
import platform
import time
from pathlib import Path
from typing import Any

from logitbank.pipeline.student.run_contents import EVENTS
from logitbank.pipeline.student.run_folder import Metrics

_LOG = logging.getLogger(__name__)
_FORMAT = "brain.Event:2"


class EventFile:
    """A file of events beside a run's own; those of earlier attempts at the same epochs are purged.

    TensorBoard's own writer has a thread, which reports a full disk by a traceback and too late.
    This one writes an epoch at a time; if it can't, it warns once, and the run goes on without:
    `metrics.jsonl` holds every epoch.

    Args:
        folder: the run's.
        first_epoch: the epoch that this attempt begins with, from 0.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        # TensorBoard reads files in the order of their names.
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"{EVENTS}{seconds:010d}.{platform.node()}.{os.getpid()}.{rest:09d}"
        self._path, self._first_epoch = folder / name, first_epoch
        self._is_begun, self._is_given_up = False, False

    def write(self, metrics: Metrics) -> None:
        """Write an epoch's metrics, a scalar each."""
        if self._is_given_up:
            return
        events = [] if self._is_begun else _beginning(self._first_epoch)
        events += [
            {"step": metrics["epoch"], "summary": _scalar(name, value)}
            for name, value in metrics.items()
            if name != "epoch" and value is not None
        ]
        try:
            with open(self._path, "ab") as file:
                file.write(_records(events))
        except OSError as error:
            self._is_given_up = True
            _LOG.warning(
                "TensorBoard events can't be written to %s (%s): the run goes on without them",
                self._path,
                error.strerror or error,
            )
        self._is_begun = True


def _beginning(first_epoch: int) -> list[dict[str, Any]]:
    """Return a file's first events: its format, and from which epoch on others are purged."""
    from tensorboard.compat.proto.event_pb2 import SessionLog  # Slow to import.

    start = SessionLog(status=SessionLog.START)
    return [{"file_version": _FORMAT}, {"step": first_epoch, "session_log": start}]


def _scalar(name: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _records(events: list[dict[str, Any]]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer, now = io.BytesIO(), time.time()
    writer = RecordWriter(buffer)
    for fields in events:
        writer.write(Event(wall_time=now, **fields).SerializeToString())
    return buffer.getvalue()
