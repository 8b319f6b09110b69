"""The student stage: a network taught from a store, by a teacher in the loop, or from labels."""

from __future__ import annotations

import math
import time
from contextlib import closing
from pathlib import Path

import torch

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.devices import torch_threads
from logitbank.pipeline.evaluate import Accuracy, evaluate
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.soft_labels import SoftLabels, paired
from logitbank.pipeline.student.checkpoint import (
    History,
    LastEpoch,
    LearnedFrom,
    load_last,
    mend,
    remaining_epochs,
    resume,
    save,
)
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.progress import (
    Progress,
    ReportProgress,
    ReportStep,
    TrainResult,
)
from logitbank.pipeline.student.run_contents import BEST
from logitbank.pipeline.student.run_folder import Metrics, RunFolder
from logitbank.pipeline.student.schedule import learning_rate
from logitbank.pipeline.student.sources import (
    learned_from,
    require_chunks,
    resolved_config,
    stores_for_loss,
)
from logitbank.pipeline.student.tensorboard import EventFile
from logitbank.pipeline.student.training_setup import TeacherLogits, TrainingSetup, prepare
from logitbank.pipeline.views.draws import epoch_order
from logitbank.stores.errors import LogitbankError, UsageError


def train(
    config: TrainConfig,
    dataset: ImageDataset,
    *,
    out: Path,
    soft_labels: SoftLabels | tuple[SoftLabels, ...] | None = None,
    teacher: LoadedModel | None = None,
    eval_dataset: ImageDataset | None = None,
    progress: ReportProgress = lambda where: None,
    on_step: ReportStep | None = None,
) -> TrainResult:
    """Train a network, or resume a stopped run; a finished run returns at once.

    An epoch trains on one view of every sample, in an order drawn from the run's seed. On a CPU the
    run can be killed at any moment and, run again, ends with the same weights, bit for bit.

    Args:
        config: the configuration; `resolved_config` fills what is None in it.
        dataset: the whole training split; `config.trained_samples` selects from it.
        out: the run's folder.
        soft_labels: the store, or pair of stores, of the views and the teacher's logits.
        teacher: a teacher in the loop, which sees the very pixels that the student sees.
        eval_dataset: where top-1 and top-5 are measured after each epoch.
        progress: called after each step, and with metrics after each epoch.
        on_step: called with the number of each step, from 0 over all epochs, and its loss.

    Returns:
        The metrics of all epochs.

    Raises:
        UsageError: an invalid request, or a folder that holds anything but a run.
        LogitbankError: the run's folder holds another run, or is in use; the loss is not finite.
        StoreError, PixelError, DatasetError: what it learns from is damaged or does not fit.
    """
    stores = _stores(soft_labels)
    config = resolved_config(config, dataset, stores, teacher)
    stores = stores_for_loss(config, stores)
    origins = learned_from(dataset, stores, teacher)
    with RunFolder.find(out, config).owned() as run:
        last = load_last(run, config, origins)
        history = _history(run, config, last, origins)
        if epochs := range(len(history.metrics), config.epochs):
            with (
                torch_threads(history.threads),
                closing(prepare(config, dataset, stores, teacher, eval_dataset, epochs)) as setup,
            ):
                _begin(setup, run, last)
                last = None  # its tensors are the trainer's now
                history = _train_remaining(setup, run, history, progress, on_step)
        return TrainResult(out, history.metrics, history.best, run.has(BEST))


def _history(
    run: RunFolder, config: TrainConfig, last: LastEpoch | None, origins: LearnedFrom
) -> History:
    """Return a run's history, its files mended; an empty one for a new run."""
    if last is None:
        return History((), config.threads or torch.get_num_threads(), origins)
    mend(run, config, last)
    return last.history


def chunks_ahead(
    config: TrainConfig,
    out: Path,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
) -> int:
    """Check and count the chunks of the stores that a run still has to read.

    Args:
        config: resolved.
        out: the run's folder, which need not exist yet.
        stores: none, one, or a pair.
        teacher: a teacher in the loop.

    Raises:
        StoreError: a chunk is missing or of another size.
        LogitbankError: the run's checkpoint is damaged.
    """
    epochs = remaining_epochs(RunFolder(out), config.epochs)
    return require_chunks(config, stores_for_loss(config, stores), teacher, epochs)


def _stores(soft_labels: SoftLabels | tuple[SoftLabels, ...] | None) -> tuple[SoftLabels, ...]:
    """Return none, one or a pair of stores, the second in its own order of views."""
    if soft_labels is None:
        return ()
    if isinstance(soft_labels, SoftLabels):
        return (soft_labels,)
    if len(soft_labels) > 2:
        raise UsageError(
            f"a student learns from one store, or from a weak and a strong one, not from "
            f"{len(soft_labels)}"
        )
    return paired(*soft_labels) if len(soft_labels) == 2 else soft_labels


def _begin(setup: TrainingSetup, run: RunFolder, last: LastEpoch | None) -> None:
    """Bring the trainer to the run's last epoch."""
    run.begin(setup.config)
    if last is not None:
        resume(run, setup.trainer, last)


def _train_remaining(
    setup: TrainingSetup,
    run: RunFolder,
    history: History,
    progress: ReportProgress,
    on_step: ReportStep | None,
) -> History:
    """Train the remaining epochs, each saved at its end."""
    epochs = setup.config.epochs
    events = EventFile(run.path, len(history.metrics))
    for epoch in range(len(history.metrics), epochs):
        metrics = _train_epoch(setup, epoch, progress, on_step)
        history = history.and_then(metrics)
        save(run, setup.config, setup.trainer, history)
        events.write(metrics)
        progress(Progress(epoch, epochs, setup.steps, setup.steps, setup.samples, metrics))
    return history


def _train_epoch(
    setup: TrainingSetup, epoch: int, progress: ReportProgress, on_step: ReportStep | None
) -> Metrics:
    """Train on one view of every sample, then measure the accuracy."""
    views, lr = setup.begin(epoch), learning_rate(setup.config, epoch)
    setup.trainer.begin_epoch(epoch, lr, setup.steps)
    losses, rate = _steps(setup, epoch, setup.teacher_logits(epoch), progress, on_step)
    if not math.isfinite(losses["loss"]):
        raise LogitbankError(
            f"the loss of epoch {epoch} is {losses['loss']} at the learning rate {lr:g}: lower "
            "it; the epochs before are saved"
        )
    accuracy = _accuracy(setup, setup.trainer.model)
    metrics = {
        "epoch": epoch,
        "loss": losses.pop("loss"),
        "top1": accuracy and accuracy.top1,
        "top5": accuracy and accuracy.top5,
        "images_per_second": rate,
        "lr": lr,
        **dict(zip(("view", "strong_view"), views, strict=False)),
        **losses,
    }
    average = setup.trainer.average
    if average is not None:
        accuracy = _accuracy(setup, average.model)
        metrics |= {"ema_top1": accuracy and accuracy.top1, "ema_top5": accuracy and accuracy.top5}
    return metrics


def _steps(
    setup: TrainingSetup,
    epoch: int,
    teacher_logits: list[TeacherLogits],
    progress: ReportProgress,
    on_step: ReportStep | None,
) -> tuple[dict[str, float], float]:
    """Run an epoch's steps.

    Returns:
        The loss and its terms, means over the images, and the images per second, by a clock around
        the steps alone.
    """
    config, trainer, samples, steps = setup.config, setup.trainer, setup.samples, setup.steps
    order = config.skip + epoch_order(epoch, samples, config.seed)
    names: list[str] = []
    sums = torch.zeros((), dtype=torch.float64)
    started = _now(trainer.device)
    for step, views in enumerate(setup.batches(order, teacher_logits)):
        terms = trainer.step(*views)
        names = list(terms)
        # Summed on the device: reading a number would make it wait at every step.
        sums = sums + torch.stack(list(terms.values())).double() * len(views[0].batch.rows)
        if on_step is not None:
            on_step(epoch * steps + step, float(terms["loss"]))
        progress(Progress(epoch, config.epochs, step + 1, steps, samples))
    rate = samples / (_now(trainer.device) - started)
    return dict(zip(names, (sums / samples).tolist(), strict=True)), rate


def _accuracy(setup: TrainingSetup, model: LoadedModel) -> Accuracy | None:
    if setup.eval_dataset is None:
        return None
    config = setup.config
    return evaluate(
        model,
        setup.eval_dataset,
        batch_size=config.batch_size,
        device=setup.trainer.device,
        workers=config.workers or None,
        amp=config.amp,
        channels_last=config.channels_last,
    )


def _now(device: torch.device) -> float:
    """Return the time once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
