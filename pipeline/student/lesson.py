"""What a student learns from, put together: images, their views, the teacher's word on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from logitbank.pipeline.datasets import ImageDataset, weak_augmentation
from logitbank.pipeline.draws import view_of_epoch
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student.batches import Batch, EpochBatches, epoch_batches
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.learner import Learner
from logitbank.pipeline.student.sources import (
    check_evaluation_classes,
    check_size,
    check_store,
)
from logitbank.pipeline.views import Augmentation, StoredViews, parse_augmentation

TeacherLogits = Callable[[Batch], torch.Tensor | None]


@dataclass(frozen=True)
class Lesson:
    """A learner and its material.

    `samples` are trained on, the first of the dataset; `views` is how many views each has, None
    for no end of them. The teacher's logits come from `teacher` where there is one, else from
    `soft_labels`; both are None for a loss of labels alone.
    """

    config: TrainConfig
    learner: Learner
    batches: EpochBatches
    samples: int
    views: int | None
    soft_labels: SoftLabels | None
    teacher: LoadedModel | None
    eval_dataset: ImageDataset | None

    @property
    def steps(self) -> int:
        """The number of batches of an epoch; the last one may be partial."""
        return -(-self.samples // self.config.batch_size)

    def view(self, epoch: int) -> int:
        """Give the view that an epoch trains on."""
        if self.views is None:
            return epoch
        return view_of_epoch(epoch, self.views, self.config.seed)

    def teacher_logits(self, epoch: int) -> TeacherLogits:
        """Give what the teacher says of each batch of an epoch; a slab is loaded here and now.

        Raises:
            StoreError: a chunk of the epoch's view is missing, damaged or belongs elsewhere.
        """
        device = self.learner.device
        if self.teacher is not None:
            teacher, batch_size = self.teacher, self.config.batch_size
            return lambda batch: forward_logits(
                teacher, batch.pixels, batch_size=batch_size, device=device
            )
        if self.soft_labels is not None:
            slab = self.soft_labels.epoch(epoch, seed=self.config.seed, device=device)
            return lambda batch: slab[batch.rows]
        return lambda batch: None


def prepare(
    config: TrainConfig,
    dataset: ImageDataset,
    soft_labels: SoftLabels | None,
    teacher: LoadedModel | None,
    eval_dataset: ImageDataset | None,
) -> Lesson:
    """Check that everything fits together, and build the student from the run's seed.

    Args:
        config: resolved.
        dataset: the whole split.
        soft_labels: a store; it gives the views even where a teacher gives the logits.
        teacher: a teacher in the loop.
        eval_dataset: where accuracy is to be measured.

    Raises:
        StoreError: the store was made from another dataset, or holds too few samples.
        UsageError: sizes or classes that don't fit.
        LogitbankError: the student can't be built, or its checkpoint is another network's.
    """
    if eval_dataset is not None:
        check_evaluation_classes(dataset, eval_dataset)
    if soft_labels is not None:
        dataset = check_store(soft_labels, dataset, config.limit)
    elif config.limit is not None:
        dataset = dataset.head(config.limit)
    samples = min(config.limit or len(dataset), len(dataset))
    torch.manual_seed(config.seed)
    student = load_model(
        config.student,
        classes=len(dataset.classes),
        normalisation=default_normalisation(dataset),
        input_size=_image_side(dataset, soft_labels),
    )
    views = _views(dataset, soft_labels, student.input_size)
    augmentation = views.augmentation if isinstance(views, StoredViews) else views
    check_size(augmentation.name, augmentation.size, student.spec, student.input_size)
    if teacher is not None:
        check_size(augmentation.name, augmentation.size, teacher.spec, teacher.input_size)
    distils = config.loss != "ce"
    return Lesson(
        config=config,
        learner=Learner(student, config),
        batches=epoch_batches(dataset, views, config, samples),
        samples=samples,
        views=views.views if isinstance(views, StoredViews) else views.count,
        soft_labels=soft_labels if distils else None,
        teacher=teacher if distils else None,
        eval_dataset=eval_dataset,
    )


def _image_side(dataset: ImageDataset, soft_labels: SoftLabels | None) -> int | None:
    """Give the side that views have, None where the student's usual size decides."""
    if soft_labels is not None:
        return soft_labels.augmentation.size
    images = dataset.images
    return None if images is None or images.shape[1] != images.shape[2] else int(images.shape[1])


def _views(
    dataset: ImageDataset, soft_labels: SoftLabels | None, input_size: int
) -> StoredViews | Augmentation:
    if soft_labels is not None:
        return soft_labels.augmentation
    return parse_augmentation(weak_augmentation(dataset), size=input_size)
