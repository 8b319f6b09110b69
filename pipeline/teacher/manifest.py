"""The manifest of a raw store: its identity, from dataset, teacher and settings."""

from __future__ import annotations

import torch

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.provenance import provenance_now
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.views import Augmentation, check_views
from logitbank.stores.encodings import encoding_named
from logitbank.stores.errors import UsageError
from logitbank.stores.layout import TOP_CLASSES, rows_per_chunk
from logitbank.stores.manifest import (
    AugmentationIdentity,
    DatasetIdentity,
    Manifest,
    TeacherIdentity,
)


def raw_manifest(
    dataset: ImageDataset,
    teacher: LoadedModel,
    augmentation: Augmentation,
    settings: CacheSettings,
    computed_on: str | None = None,
) -> Manifest:
    """Return the manifest of the raw store that a teacher's run will make.

    Args:
        dataset: the split.
        teacher: a pretrained network.
        augmentation: how views are drawn.
        settings: what is cached and how.
        computed_on: the name of the devices that compute, where they are not this machine's.

    Raises:
        UsageError: more views than the augmentation has, an unknown encoding, or views of another
            size than the teacher's images.
    """
    check_views(augmentation, settings.views)
    if augmentation.size != teacher.input_size:
        raise UsageError(
            f"{augmentation.name} makes views of size {augmentation.size}, but {teacher.spec} "
            f"takes {teacher.input_size}: set {augmentation.name}:size={teacher.input_size}"
        )
    samples, classes = len(dataset), len(dataset.classes)
    encoding = encoding_named(settings.encoding)
    row_bytes = encoding.row_bytes(classes)
    device = computed_on or device_name(settings.device)
    return Manifest(
        kind="raw",
        dataset=DatasetIdentity(dataset.name, dataset.split, samples, classes, dataset.fingerprint),
        augmentation=AugmentationIdentity(
            augmentation.name,
            augmentation.parameters,
            augmentation.columns,
            augmentation.dtype,
            augmentation.size,
            settings.seed,
        ),
        views=settings.views,
        encoding=str(encoding),
        rows_per_chunk=min(settings.block_rows or rows_per_chunk(samples, row_bytes), samples),
        top_classes=min(TOP_CLASSES, classes),
        teacher=teacher_identity(teacher, settings),
        provenance=provenance_now(device, teacher_spec=teacher.spec),
    )


def teacher_identity(teacher: LoadedModel, settings: CacheSettings) -> TeacherIdentity:
    """Return everything that a teacher's logits depend on."""
    mean, std = teacher.normalisation.mean, teacher.normalisation.std
    return TeacherIdentity(
        spec=teacher.architecture,
        state_sha256=state_sha256(teacher.module),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        input_size=teacher.input_size,
        precision=settings.precision.name,
        batch_size=settings.batch_size,
        memory_format=settings.precision.memory_format,
    )


def device_name(device: str) -> str:
    """Return a device's readable name: the GPU's model, or `cpu`."""
    kind = torch.device(device)
    return torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type
