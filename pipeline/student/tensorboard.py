"""A run's metrics as TensorBoard events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.pipeline.student.run_folder import Metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@contextmanager
def event_writer(path: Path, first_epoch: int) -> Iterator[SummaryWriter]:
    """Write events into a folder; those of earlier attempts at `first_epoch` and later are purged.

    Args:
        path: the run's folder.
        first_epoch: the epoch that this attempt begins with, from 0.
    """
    from torch.utils.tensorboard import SummaryWriter  # Slow to import.

    writer = SummaryWriter(str(path), purge_step=first_epoch)
    try:
        yield writer
    finally:
        writer.close()


def write_events(writer: SummaryWriter, metrics: Metrics) -> None:
    """Write an epoch's metrics, a scalar each, and flush them."""
    for name, value in metrics.items():
        if name != "epoch" and value is not None:
            writer.add_scalar(name, value, metrics["epoch"])
    writer.flush()
