"""What a training run reports while it runs, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from logitbank.pipeline.student.run_folder import Metrics


@dataclass(frozen=True)
class Progress:
    """Where a run stands: after a step, or, with `metrics`, after an epoch; all count from 0.

    `step` of `steps` of this epoch are done; `images` is the number of images of the epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int
    metrics: Metrics | None = None


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished run; accuracies in percent, None without an evaluation split.

    `metrics` holds one object per epoch, as `metrics.jsonl` does. `best` is that of the epoch whose
    weights are in `best.pt`: the first of the highest top-1, the last one where there is none.
    `has_best` is false where that file was damaged or removed, and these weights are lost.
    """

    out: Path
    metrics: tuple[Metrics, ...]
    best: Metrics
    has_best: bool = True

    @property
    def last(self) -> Metrics:
        """The metrics of the last epoch."""
        return self.metrics[-1]


ReportProgress = Callable[[Progress], None]
ReportStep = Callable[[int, float], None]
