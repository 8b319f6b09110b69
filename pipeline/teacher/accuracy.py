"""A check, before the first block, that a teacher is fed as it was trained."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.evaluate import evaluate
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.teacher.class_order import require_class_order
from logitbank.pipeline.teacher.settings import CLASS_ORDER, CacheSettings
from logitbank.stores.errors import LogitbankError
from logitbank.stores.manifest import Measured

TRAINING_SAMPLE = 5_000


def clean_accuracy(
    teacher: LoadedModel,
    dataset: ImageDataset,
    settings: CacheSettings,
    most: int | None = None,
) -> Measured:
    """Measure a teacher on centre crops: all of an evaluation split, or a sample of a training one.

    The sample is spread evenly, so that splits which are sorted by class are covered. `most` limits
    the number of samples.

    Raises:
        LogitbankError: the teacher numbers its classes differently from the dataset.
    """
    limit = TRAINING_SAMPLE if dataset.split == "train" else len(dataset)
    limit = min(limit, most or limit)
    spread = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).astype(np.int64)
    top: list[torch.Tensor] = []
    found = evaluate(
        teacher,
        dataset,
        batch_size=settings.batch_size,
        device=settings.device,
        workers=settings.workers,
        samples=spread,
        on_logits=lambda logits: top.append(logits.argmax(dim=1).cpu()),
        **dataclasses.asdict(settings.precision),
    )
    if CLASS_ORDER not in settings.accept:
        labels, predicted = dataset.targets[spread], torch.cat(top).numpy()
        require_class_order(teacher.spec, dataset.classes, labels, predicted)
    return Measured(
        clean_top1=round(found.top1, 4),
        clean_top5=round(found.top5, 4),
        clean_split=dataset.split,
        clean_samples=found.samples,
    )


def require_expected_top1(teacher: str, measured: Measured, expected: float) -> None:
    """Check that a teacher's accuracy on centre crops is near the expected one.

    Raises:
        LogitbankError: it falls more than a point and three standard errors short.
    """
    top1, samples = measured.clean_top1, measured.clean_samples
    assert top1 is not None, "the accuracy was measured"
    assert samples is not None, "the accuracy was measured"
    share = expected / 100
    error = 100 * math.sqrt(share * (1 - share) / samples)
    if top1 < expected - 1 - 3 * error:
        raise LogitbankError(
            f"{teacher} has top-1 {top1:.2f}% on centre crops of {samples} {measured.clean_split} "
            f"samples, {expected:.2f}% (± {error:.2f}) was expected: the usual causes are another "
            "normalisation, interpolation or resize than it was trained with, or another order of "
            "classes"
        )
