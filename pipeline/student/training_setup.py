"""Everything that a student learns from: images, their views, and a teacher's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset, require_two_classes, weak_augmentation
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student.batches import Batch, EpochBatches, epoch_batches
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.resolution import loss_of
from logitbank.pipeline.student.sources import (
    check_evaluation_classes,
    check_size,
    check_store,
    require_chunks,
)
from logitbank.pipeline.student.trainer import Trainer, ViewBatch
from logitbank.pipeline.views import Augmentation, StoredViews, kind_of, parse_augmentation
from logitbank.pipeline.views.draws import Stream, view_of_epoch

TeacherLogits = Callable[[Batch], torch.Tensor | None]


@dataclass(frozen=True)
class ViewSource:
    """One of the views that an epoch shows of each image, and the teacher's logits of it.

    `count` is how many views there are, None if unlimited; `order` in which order they come. The
    teacher's logits come from `soft_labels` unless there is a teacher in the loop.
    """

    batches: EpochBatches
    count: int | None
    order: Stream
    soft_labels: SoftLabels | None

    def view(self, epoch: int, seed: int) -> int:
        """Return the view that an epoch trains on."""
        return epoch if self.count is None else view_of_epoch(epoch, self.count, seed, self.order)


@dataclass(frozen=True)
class TrainingSetup:
    """A student in training and what it learns from.

    `samples` is how many are trained on. `views` are the weak ones and, for a loss that learns
    from both, the strong ones. The teacher's logits come from `teacher` where there is one, else
    from the stores; there are none for a loss of labels alone.
    """

    config: TrainConfig
    trainer: Trainer
    views: tuple[ViewSource, ...]
    samples: int
    teacher: LoadedModel | None
    eval_dataset: ImageDataset | None

    @property
    def steps(self) -> int:
        """The number of batches of an epoch; the last one may be partial."""
        return -(-self.samples // self.config.batch_size)

    def begin(self, epoch: int) -> list[int]:
        """Prepare an epoch's views, and return their numbers.

        Raises:
            PixelError: its pixels are not those the teacher saw.
            StoreError: what is stored of the view is missing or damaged.
        """
        numbers = [each.view(epoch, self.config.seed) for each in self.views]
        for each, view in zip(self.views, numbers, strict=True):
            each.batches.begin(view)
        return numbers

    def teacher_logits(self, epoch: int) -> list[TeacherLogits]:
        """Return functions that look up the teacher's logits of an epoch's views; slabs load now.

        Raises:
            StoreError: a chunk of the epoch's view is missing, damaged or belongs elsewhere.
        """
        return [self._teacher_logits(each, epoch) for each in self.views]

    def batches(
        self, order: NDArray[np.int64], teacher_logits: list[TeacherLogits]
    ) -> Iterator[tuple[ViewBatch, ...]]:
        """Yield the batches of the current epoch: its views of the same images.

        Args:
            order: the samples.
            teacher_logits: of the epoch.
        """
        streams = [each.batches.batches(order) for each in self.views]
        for batches in zip(*streams, strict=True):
            yield tuple(
                ViewBatch(batch, logits(batch))
                for batch, logits in zip(batches, teacher_logits, strict=True)
            )

    def close(self) -> None:
        """Stop the workers that make batches."""
        for each in self.views:
            each.batches.close()

    def _teacher_logits(self, views: ViewSource, epoch: int) -> TeacherLogits:
        device = self.trainer.device
        if self.teacher is not None:
            teacher, batch_size = self.teacher, self.config.batch_size
            return lambda batch: forward_logits(
                teacher, batch.pixels, batch_size=batch_size, device=device
            )
        if views.soft_labels is not None:
            slab = views.soft_labels.epoch(epoch, seed=self.config.seed, device=device)
            return lambda batch: slab[batch.rows]
        return lambda batch: None


def prepare(
    config: TrainConfig,
    dataset: ImageDataset,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
    eval_dataset: ImageDataset | None,
    epochs: range,
) -> TrainingSetup:
    """Check that everything fits together, and build the student from the run's seed.

    Args:
        config: resolved.
        dataset: the whole split.
        stores: none, one, or a pair; they provide the views even if a teacher provides the logits.
        teacher: a teacher in the loop.
        eval_dataset: where accuracy is to be measured.
        epochs: those that are still to be trained.

    Raises:
        StoreError: a store was made from another dataset, holds too few samples, or is missing a
            chunk that the epochs will read.
        DatasetError: there is only one class.
        UsageError: sizes or classes that don't fit.
        LogitbankError: the student can't be built, or its checkpoint is another network's.
    """
    if eval_dataset is not None:
        check_evaluation_classes(dataset, eval_dataset)
    trained = config.trained_samples(len(dataset))
    dataset = _trained_dataset(dataset, stores, trained)
    require_chunks(config, stores, teacher, epochs)
    torch.manual_seed(config.seed)
    student = load_model(
        config.student,
        classes=len(dataset.classes),
        normalisation=default_normalisation(dataset),
        input_size=_image_side(dataset, stores),
    )
    sources = _sources(config, dataset, stores, student.input_size)
    for drawn in map(kind_of, sources):
        for model in filter(None, (student, teacher)):
            check_size(drawn.name, drawn.size, model.spec, model.input_size)
    return TrainingSetup(
        config=config,
        trainer=Trainer(student, config),
        views=_views(config, dataset, sources, stores, len(trained)),
        samples=len(trained),
        teacher=teacher if loss_of(config).needs_teacher else None,
        eval_dataset=eval_dataset,
    )


def _trained_dataset(
    dataset: ImageDataset, stores: tuple[SoftLabels, ...], trained: range
) -> ImageDataset:
    """Cut a split to the samples that the stores hold, or without any to those trained on."""
    cut = dataset.head(trained.stop) if not stores else dataset
    for soft in stores:
        cut = check_store(soft, dataset, trained)
    require_two_classes(cut)
    return cut


def _views(
    config: TrainConfig,
    dataset: ImageDataset,
    sources: list[StoredViews | Augmentation],
    stores: tuple[SoftLabels, ...],
    samples: int,
) -> tuple[ViewSource, ...]:
    """Combine batches and soft labels, source by source: weak views, then strong ones."""
    has_logits = stores and loss_of(config).needs_teacher
    orders = Stream.VIEW_ORDER, Stream.STRONG_VIEW_ORDER
    return tuple(
        ViewSource(
            batches=epoch_batches(dataset, source, config, samples),
            count=source.views if isinstance(source, StoredViews) else source.count,
            order=orders[place],
            soft_labels=stores[place] if has_logits else None,
        )
        for place, source in enumerate(sources)
    )


def _image_side(dataset: ImageDataset, stores: tuple[SoftLabels, ...]) -> int | None:
    """Return the side of the views, None if the student's usual size decides."""
    if stores:
        return stores[0].augmentation.size
    images = dataset.images
    return None if images is None or images.shape[1] != images.shape[2] else int(images.shape[1])


def _sources(
    config: TrainConfig,
    dataset: ImageDataset,
    stores: tuple[SoftLabels, ...],
    input_size: int,
) -> list[StoredViews | Augmentation]:
    """Return what the views come from, as many as the loss learns from."""
    if stores:
        return [soft.augmentation for soft in stores]
    specs = [weak_augmentation(dataset)]
    if loss_of(config).views == 2:
        assert config.strong_augmentation is not None, "resolved"
        specs.append(config.strong_augmentation)
    return [parse_augmentation(spec, size=input_size) for spec in specs]
