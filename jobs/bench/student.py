"""`bench student`: what soft labels from a store cost the training of a student, step by step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from logitbank.jobs.bench.paced_run import PacedRun
from logitbank.jobs.bench.random_store import random_dataset, write_random_store
from logitbank.jobs.bench.slab import SlabCost, measure_slab
from logitbank.jobs.bench.student_figures import (
    CACHED,
    CONSTANT,
    HARD,
    HARD_AGAIN,
    ONLINE,
    StudentMeasured,
    StudentSettings,
    Work,
)
from logitbank.jobs.bench.threads import torch_threads
from logitbank.jobs.bench.timing import interleave
from logitbank.pipeline.datasets.memory import MemoryDataset
from logitbank.pipeline.models import LoadedModel, default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, TrainResult, train
from logitbank.pipeline.student.config import usable_device
from logitbank.pipeline.student.progress import ReportProgress
from logitbank.pipeline.teacher import CacheSettings
from logitbank.stores.errors import UsageError
from logitbank.stores.slab import Slab

VIEWS = 2


def measure_student(
    settings: StudentSettings, progress: Callable[[int, int], None] = lambda done, total: None
) -> StudentMeasured:
    """Train the same student in five ways, a slice of steps each in turn.

    All five see the same views of the same images in the same order, from the same weights, with
    the same checks of the pixels; they differ in where the teacher's logits come from alone.

    Raises:
        UsageError: more steps than one epoch has, an unknown model, or no such device.
    """
    _require_one_epoch(settings)
    usable_device(settings.device)
    with ExitStack() as stack:
        stack.enter_context(torch_threads(settings.threads))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logitbank-bench-")))
        dataset = random_dataset(settings.samples, settings.classes)
        teacher = _random_teacher(settings, dataset)
        store = folder / "random.zarr"
        caching = CacheSettings(views=VIEWS, batch_size=settings.batch_size)
        write_random_store(store, dataset, teacher, caching)
        slab = measure_slab(store, dataset, settings)
        runs = stack.enter_context(_paced_runs(settings, dataset, store, teacher, folder))
        for run in runs.values():
            run.take(settings.steps)
        images = settings.steps * settings.batch_size
        ways = {name: partial(_slice, run, settings.steps, images) for name, run in runs.items()}
        rates = interleave(ways, settings.rounds, progress=progress)
        work = {name: _work_done(run, settings) for name, run in runs.items()}
    return StudentMeasured.of(settings, rates, slab, work)


class ConstantLabels(SoftLabels):
    """A store's views, and the same logits for every batch: the loss without the cache."""

    def epoch(self, epoch: int, *, seed: int = 0, device: str | torch.device = "cpu") -> Slab:
        """Give a slab that does no work."""
        slab = super().epoch(epoch, seed=seed, device=device)
        return ConstantSlab(slab.view, slab.codes.to(torch.float32))


class ConstantSlab(Slab):
    """Gives its first rows, whichever are asked for."""

    def __getitem__(self, row: torch.Tensor) -> torch.Tensor:
        """Give (B, C) float32 without a copy."""
        return self.codes[: len(row)]


@contextmanager
def _paced_runs(
    settings: StudentSettings,
    dataset: MemoryDataset,
    store: Path,
    teacher: LoadedModel,
    folder: Path,
) -> Iterator[dict[str, PacedRun]]:
    """Make ready to train in each way; what is not finished at the end is abandoned."""
    labels = {name: SoftLabels for name in (HARD, HARD_AGAIN, CACHED, ONLINE)}
    labels[CONSTANT] = ConstantLabels
    device = torch.device(settings.device)

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def paced(name: str) -> PacedRun:
        config = settings.train_config("ce" if name in (HARD, HARD_AGAIN) else "kd")
        soft = labels[name].open(store)
        in_loop = teacher if name == ONLINE else None

        def run(progress: ReportProgress) -> TrainResult:
            return train(
                config,
                dataset,
                out=folder / name,
                soft_labels=soft,
                teacher=in_loop,
                progress=progress,
            )

        return PacedRun(run, settle)

    runs = {name: paced(name) for name in (HARD, CONSTANT, CACHED, ONLINE, HARD_AGAIN)}
    try:
        yield runs
    finally:
        for run in runs.values():
            run.abandon()


def _slice(run: PacedRun, steps: int, images: int) -> int:
    run.take(steps)
    return images
