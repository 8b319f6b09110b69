"""The student stage: a network taught from a store, by a teacher in the loop, or from labels."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.devices import torch_threads
from logitbank.pipeline.draws import epoch_order
from logitbank.pipeline.evaluate import Accuracy, evaluate
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.soft_labels import SoftLabels, paired
from logitbank.pipeline.student.checkpoint import (
    History,
    LastEpoch,
    load_last,
    mend,
    remaining_epochs,
    resume,
    save,
)
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.lesson import Lesson, TeacherLogits, prepare
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
    stores_as_taught,
)
from logitbank.pipeline.student.tensorboard import EventFile
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
    """Train a network, or go on with a run that was stopped; a finished run returns at once.

    An epoch trains on one view of every sample, in an order drawn from the run's seed. On a CPU the
    run can be killed at any moment and ends, run again, with the same weights bit for bit.

    Args:
        config: what to do; what is None in it is filled as `resolved_config` says, by what
            there is to learn from.
        dataset: the whole training split; `config.trained_samples` says which of it.
        out: the run's folder: `config.yaml`, `metrics.jsonl`, `best.pt`, `last.pt`, TensorBoard,
            and `ema.pt`, the average of the weights after the last epoch, where it is asked for.
        soft_labels: the store that gives the views, and the teacher's logits unless there is a
            teacher. Without one, the dataset's weak augmentation gives the views. A loss that
            learns from weak and strong views takes a pair of stores, as `SoftLabels.open_pair`
            opens them; a step then sees both views of each image, in two forward passes.
        teacher: a teacher in the loop, which sees the very pixels that the student sees.
        eval_dataset: where top-1 and top-5 are measured after each epoch.
        progress: called after each step, and with its metrics after each epoch.
        on_step: called with the number of each step, from 0 over all epochs, and its loss.

    Returns:
        The metrics of all epochs, those before a resumption included.

    Raises:
        UsageError: a request that can't be meant; more or fewer stores than the loss learns from; a
            folder that holds something else than a run.
        LogitbankError: the run's folder holds another configuration, learned from another store, or
            is another process's; the loss is not finite.
        StoreError: the store is damaged, was made from another dataset, or lacks a chunk that the
            epochs still to be trained will read.
        PixelError: the dataset's pixels are not those the teacher saw.
        DatasetError: an image can't be read.
    """
    stores = _stores(soft_labels)
    config = resolved_config(config, dataset, stores, teacher)
    stores = stores_as_taught(config, stores)
    origins = learned_from(dataset, stores, teacher)
    with RunFolder.find(out, config).owned() as run:
        last = load_last(run, config, origins)
        history = History((), config.threads or torch.get_num_threads(), origins)
        if last is not None:
            history = last.history
            mend(run, config, last)
        if len(history.metrics) < config.epochs:
            epochs = range(len(history.metrics), config.epochs)
            with torch_threads(history.threads):
                lesson = prepare(config, dataset, stores, teacher, eval_dataset, epochs)
                try:
                    _begin(lesson, run, last)
                    last = None  # its tensors are the learner's now
                    history = _go_on(lesson, run, history, progress, on_step)
                finally:
                    lesson.close()
        return TrainResult(out, history.metrics, history.best, run.has(BEST))


def chunks_ahead(
    config: TrainConfig,
    out: Path,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
) -> int:
    """Count the chunks of the stores that a run will read from where it stands, and require them.

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
    return require_chunks(config, stores_as_taught(config, stores), teacher, epochs)


def _stores(soft_labels: SoftLabels | tuple[SoftLabels, ...] | None) -> tuple[SoftLabels, ...]:
    """Give none, one or a pair of stores, the second in its own order of views."""
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


def _begin(lesson: Lesson, run: RunFolder, last: LastEpoch | None) -> None:
    """Put the learner to where the run is."""
    run.begin(lesson.config)
    if last is not None:
        resume(run, lesson.learner, last)


def _go_on(
    lesson: Lesson,
    run: RunFolder,
    history: History,
    progress: ReportProgress,
    on_step: ReportStep | None,
) -> History:
    """Train the epochs that lack, each saved at its end."""
    epochs = lesson.config.epochs
    events = EventFile(run.path, len(history.metrics))
    for epoch in range(len(history.metrics), epochs):
        metrics = _train_epoch(lesson, epoch, progress, on_step)
        history = history.and_then(metrics)
        save(run, lesson.config, lesson.learner, history)
        events.write(metrics)
        progress(Progress(epoch, epochs, lesson.steps, lesson.steps, lesson.samples, metrics))
    return history


def _train_epoch(
    lesson: Lesson, epoch: int, progress: ReportProgress, on_step: ReportStep | None
) -> Metrics:
    """Train on one view of every sample, then measure the accuracy."""
    views, lr = lesson.begin(epoch), learning_rate(lesson.config, epoch)
    lesson.learner.begin_epoch(epoch, lr, lesson.steps)
    losses, rate = _steps(lesson, epoch, lesson.teacher_logits(epoch), progress, on_step)
    if not math.isfinite(losses["loss"]):
        raise LogitbankError(
            f"the loss of epoch {epoch} is {losses['loss']} at the learning rate {lr:g}: lower "
            "it; the epochs before are saved"
        )
    accuracy = _accuracy(lesson, lesson.learner.model)
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
    average = lesson.learner.average
    if average is not None:
        accuracy = _accuracy(lesson, average.model)
        metrics |= {"ema_top1": accuracy and accuracy.top1, "ema_top5": accuracy and accuracy.top5}
    return metrics


def _steps(
    lesson: Lesson,
    epoch: int,
    teacher_logits: list[TeacherLogits],
    progress: ReportProgress,
    on_step: ReportStep | None,
) -> tuple[dict[str, float], float]:
    """Take an epoch's steps.

    Returns:
        The loss and its terms, means over the images, and the images a second, by a clock that
        runs around the steps alone.
    """
    config, learner, samples, steps = lesson.config, lesson.learner, lesson.samples, lesson.steps
    order = config.skip + epoch_order(epoch, samples, config.seed)
    names: list[str] = []
    sums = torch.zeros((), dtype=torch.float64)
    started = _now(learner.device)
    for step, ((batch, said), *strong) in enumerate(lesson.batches(order, teacher_logits)):
        terms = learner.step(batch, said, *strong)
        names = list(terms)
        # Summed on the device: asking for a number would make it wait at every step.
        sums = sums + torch.stack(list(terms.values())).double() * len(batch.rows)
        if on_step is not None:
            on_step(epoch * steps + step, float(terms["loss"]))
        progress(Progress(epoch, config.epochs, step + 1, steps, samples))
    rate = samples / (_now(learner.device) - started)
    return dict(zip(names, (sums / samples).tolist(), strict=True)), rate


def _accuracy(lesson: Lesson, model: LoadedModel) -> Accuracy | None:
    if lesson.eval_dataset is None:
        return None
    config = lesson.config
    return evaluate(
        model,
        lesson.eval_dataset,
        batch_size=config.batch_size,
        device=lesson.learner.device,
        workers=config.workers or None,
        amp=config.amp,
        channels_last=config.channels_last,
    )


def _now(device: torch.device) -> float:
    """Read the clock once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
