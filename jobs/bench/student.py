"""`bench student`: the cost of soft labels from a store in the training of a student."""

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
from logitbank.jobs.bench.slab import measure_slab
from logitbank.jobs.bench.student_figures import (
    CONSTANT,
    HARD,
    HARD_AGAIN,
    ONLINE,
    WAYS,
    StudentMeasured,
    StudentSettings,
    Work,
)
from logitbank.jobs.bench.timing import interleave
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.devices import torch_threads, usable_device
from logitbank.pipeline.models import LoadedModel, default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, TrainResult, train
from logitbank.pipeline.student.progress import ReportProgress
from logitbank.pipeline.teacher import CacheSettings
from logitbank.stores.errors import UsageError
from logitbank.stores.slab import Slab

VIEWS = 2
LEARNING_RATE = 0.01


def measure_student(
    settings: StudentSettings, progress: Callable[[int, int], None] = lambda done, total: None
) -> StudentMeasured:
    """Train the same student in five ways, which take turns of a few steps.

    All of them start from the same weights, see the same views of the same images in the same order
    and check their pixels in the same way; only the loss and the source of its logits differ.

    Raises:
        UsageError: there are too few images, the model is unknown, or the device is missing.
    """
    if settings.images > settings.samples:
        raise UsageError(
            f"{settings.rounds} rounds of {settings.steps} steps of {settings.batch_size} images, "
            f"after one that is not timed, take {settings.images:,} images, more than --samples "
            f"{settings.samples:,}: raise --samples, or lower one of them"
        )
    with ExitStack() as stack:
        stack.enter_context(torch_threads(settings.threads))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logitbank-bench-")))
        material = _prepare(settings, folder)
        slab = measure_slab(
            material.store, material.dataset, settings.batch_size, material.settle, settings.device
        )
        runs = stack.enter_context(_paced_runs(settings, material))
        for run in runs.values():
            run.take(settings.steps)
        ways = {name: partial(_slice, run, settings) for name, run in runs.items()}
        rates = interleave(ways, settings.rounds, progress=progress)
        work = {name: _work_done(run) for name, run in runs.items()}
    return StudentMeasured.of(settings, rates, slab, work)


@dataclass(frozen=True)
class Material:
    """What all ways train on; `settle` waits until the device has finished its work."""

    folder: Path
    dataset: MemoryDataset
    store: Path
    teacher: LoadedModel
    settle: Callable[[], None]


def _prepare(settings: StudentSettings, folder: Path) -> Material:
    """Make random images, a teacher with random weights, and a store of random logits."""
    device = usable_device(settings.device)
    dataset = random_dataset(settings.samples, settings.classes)
    torch.manual_seed(0)
    teacher = load_model(
        settings.teacher,
        classes=settings.classes,
        normalisation=default_normalisation(dataset),
        input_size=dataset.images.shape[1],
    )
    teacher.module.eval().requires_grad_(False)
    caching = CacheSettings(views=VIEWS, batch_size=settings.batch_size)
    write_random_store(folder / "random.zarr", dataset, teacher, caching)
    settle = partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing
    return Material(folder, dataset, folder / "random.zarr", teacher, settle)


@contextmanager
def _paced_runs(settings: StudentSettings, material: Material) -> Iterator[dict[str, PacedRun]]:
    """Yield a run for each way; runs that are not finished after the block are abandoned."""
    runs = {name: _paced_run(name, settings, material) for name in WAYS}
    try:
        yield runs
    finally:
        for run in runs.values():
            run.abandon()


def _paced_run(name: str, settings: StudentSettings, material: Material) -> PacedRun:
    """Return a run that trains in one way."""
    labels = ConstantLabels if name == CONSTANT else SoftLabels
    config = TrainConfig(
        student=settings.student,
        loss="ce" if name in (HARD, HARD_AGAIN) else "kd",
        epochs=1,
        batch_size=settings.batch_size,
        limit=settings.images,
        device=settings.device,
        threads=settings.threads,
        lr=LEARNING_RATE,
    )

    def run(progress: ReportProgress) -> TrainResult:
        return train(
            config,
            material.dataset,
            out=material.folder / name,
            soft_labels=labels.open(material.store),
            teacher=material.teacher if name == ONLINE else None,
            progress=progress,
        )

    return PacedRun(run, material.settle)


def _slice(run: PacedRun, settings: StudentSettings) -> int:
    run.take(settings.steps)
    return settings.steps * settings.batch_size


def _work_done(run: PacedRun) -> Work:
    """Finish a run, and return what it did in all."""
    metrics = run.finish().last
    return Work(images=run.images, steps=run.steps, loss=metrics["loss"])


def _nothing() -> None:
    """Do nothing: work on the CPU is synchronous."""


class ConstantLabels(SoftLabels):
    """A store's views, and the same logits for every batch: the loss without the cache."""

    def epoch(self, epoch: int, *, seed: int = 0, device: str | torch.device = "cpu") -> Slab:
        """Return a slab that does no work."""
        slab = super().epoch(epoch, seed=seed, device=device)
        return ConstantSlab(slab.view, {"first": slab[slab.rows]}, slab.encoding)


class ConstantSlab(Slab):
    """A slab that returns its first rows, whichever are asked for."""

    def __getitem__(self, row: torch.Tensor) -> torch.Tensor:
        """Return (B, C) float32 without a copy."""
        return self.codes["first"][: len(row)]
