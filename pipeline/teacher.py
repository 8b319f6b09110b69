"""The teacher stage: run a trained network once over views of a dataset and keep its logits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.evaluate import evaluate
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.provenance import provenance_now
from logitbank.pipeline.read_ahead import read_ahead
from logitbank.pipeline.views import Augmentation, ViewRenderer, check_views, pixel_crc
from logitbank.stores.encodings import LogitOutOfRangeError, encoding_named
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.layout import TOP_CLASSES, Unit, block_bounds, rows_per_chunk
from logitbank.stores.manifest import (
    AugmentationIdentity,
    DatasetIdentity,
    Manifest,
    Measured,
    TeacherIdentity,
)
from logitbank.stores.ranking import top_classes
from logitbank.stores.writer import StoreWriter, unit_rows

BATCHES_AHEAD = 4
TRAINING_SAMPLE = 5_000


@dataclass(frozen=True)
class Precision:
    """How a network computes: all off is plain float32, the default."""

    amp: bool = False
    tf32: bool = False
    channels_last: bool = False

    @property
    def name(self) -> str:
        """What the manifest calls it."""
        return "amp" if self.amp else "tf32" if self.tf32 else "float32"

    @property
    def memory_format(self) -> str:
        """What the manifest calls the memory format."""
        return "channels_last" if self.channels_last else "contiguous"


@dataclass(frozen=True)
class CacheSettings:
    """What is cached and how.

    `views` is V; `batch_size` the rows of each forward pass; `block_rows` the rows of a chunk, None
    for about 32 MiB of them; `workers` the threads that render image files.
    """

    views: int
    seed: int = 0
    encoding: str = "float16"
    batch_size: int = 256
    block_rows: int | None = None
    device: str = "cpu"
    precision: Precision = Precision()
    workers: int = 2


def raw_manifest(
    dataset: ImageDataset,
    teacher: LoadedModel,
    augmentation: Augmentation,
    settings: CacheSettings,
) -> Manifest:
    """Describe the raw store that a teacher's run will make.

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
    row_bytes = encoding_named(settings.encoding).row_bytes(classes)
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
        encoding=settings.encoding,
        rows_per_chunk=min(settings.block_rows or rows_per_chunk(samples, row_bytes), samples),
        top_classes=min(TOP_CLASSES, classes),
        teacher=_teacher_identity(teacher, settings),
        provenance=provenance_now(device_name(settings.device), teacher_spec=teacher.spec),
    )


def clean_accuracy(
    teacher: LoadedModel,
    dataset: ImageDataset,
    settings: CacheSettings,
    most: int | None = None,
) -> Measured:
    """Measure a teacher on centre crops: all of an evaluation split, or a sample of a training one.

    The sample is spread evenly, so that splits which are sorted by class are covered. `most` is an
    upper limit of the samples.
    """
    limit = TRAINING_SAMPLE if dataset.split == "train" else len(dataset)
    limit = min(limit, most or limit)
    spread = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).astype(np.int64)
    found = evaluate(
        teacher,
        dataset,
        batch_size=settings.batch_size,
        device=settings.device,
        workers=settings.workers,
        samples=spread,
        **dataclasses.asdict(settings.precision),
    )
    return Measured(
        clean_top1=round(found.top1, 4),
        clean_top5=round(found.top5, 4),
        clean_split=dataset.split,
        clean_samples=found.samples,
    )


def require_expected_top1(teacher: str, measured: Measured, expected: float) -> None:
    """Require a teacher's accuracy on centre crops to be near what is known of it.

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


def cache_views(
    dataset: ImageDataset,
    teacher: LoadedModel,
    augmentation: Augmentation,
    settings: CacheSettings,
    writer: StoreWriter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Compute the units that a store lacks, block by block, and seal it.

    Views are made ahead by a thread while the teacher runs; finished blocks are written by another.

    Args:
        dataset: the split of the store.
        teacher: a pretrained network.
        augmentation: how views are drawn.
        settings: those of the store's manifest.
        writer: the store being made, of `raw_manifest`.
        progress: called with the rows computed in this run and their number.

    Returns:
        The sealed manifest.

    Raises:
        DatasetError: an image can't be read.
        LogitbankError: a sample's logits are not finite, or don't fit the encoding.
        StoreError: a file can't be written.
    """
    manifest = writer.manifest
    rows, done = unit_rows(writer.lacking, manifest), 0
    with (
        ThreadPoolExecutor(settings.workers, thread_name_prefix="render") as render_pool,
        ThreadPoolExecutor(1, thread_name_prefix="write") as write_pool,
    ):
        renderer = ViewRenderer(dataset, augmentation, pool=render_pool)
        batches = drawn_batches(renderer, manifest, writer.lacking, settings.batch_size)
        writing: Future[None] | None = None
        block: _Block | None = None
        for batch in read_ahead(batches, BATCHES_AHEAD):
            if block is None:
                block = _Block.empty(batch.unit, manifest)
            block.take(batch, _teacher_logits(teacher, batch, settings, dataset))
            if writing is not None and (writing.done() or block.is_full):
                writing.result()
            if block.is_full:
                writing = write_pool.submit(write_block, writer, dataset, block)
                block = None
            done += len(batch.samples)
            progress(done, rows)
        if writing is not None:
            writing.result()
    return writer.seal()


@dataclass(frozen=True)
class DrawnBatch:
    """Views of some samples of a unit: what was drawn, rendered and its checksums."""

    unit: Unit
    samples: NDArray[np.int64]
    pixels: torch.Tensor
    params: NDArray[Any]
    crc: NDArray[np.uint32]


def drawn_batches(
    renderer: ViewRenderer, manifest: Manifest, units: list[Unit], batch_size: int
) -> Iterator[DrawnBatch]:
    """Draw and render the views of some units, in batches that end with their unit."""
    for unit in units:
        start, stop = block_bounds(manifest, unit.block)
        for first in range(start, stop, batch_size):
            samples = np.arange(first, min(first + batch_size, stop))
            pixels, params = renderer.draw(manifest.augmentation.seed, unit.view, samples)
            yield DrawnBatch(unit, samples, pixels, params, pixel_crc(pixels))


def write_block(writer: StoreWriter, dataset: ImageDataset, block: _Block) -> None:
    """Rank, encode and write a full block.

    Raises:
        LogitbankError: a logit doesn't fit the encoding; the sample is named.
        StoreError: a file can't be written.
    """
    manifest = writer.manifest
    target = dataset.targets[block.start : block.start + len(block.logits)]
    try:
        codes = encoding_named(manifest.encoding).encode(block.logits)
    except LogitOutOfRangeError as error:
        where = dataset.where(block.start + error.row)
        raise LogitbankError(f"{where}, view {block.unit.view}: {error}") from error
    values = {
        "view_params": block.params,
        "pixel_crc": block.crc,
        "top": top_classes(block.logits, target, manifest.top_classes),
        "logits": codes,
    }
    writer.write_unit(block.unit, values)


@dataclass
class _Block:
    """The rows of one unit as they come in."""

    unit: Unit
    start: int
    logits: NDArray[np.float32]
    params: NDArray[Any]
    crc: NDArray[np.uint32]
    filled: int = 0

    @classmethod
    def empty(cls, unit: Unit, manifest: Manifest) -> _Block:
        start, stop = block_bounds(manifest, unit.block)
        rows, augmentation = stop - start, manifest.augmentation
        return cls(
            unit,
            start,
            np.empty((rows, manifest.dataset.classes), np.float32),
            np.empty((rows, len(augmentation.columns)), augmentation.dtype),
            np.empty(rows, np.uint32),
        )

    @property
    def is_full(self) -> bool:
        return self.filled == len(self.logits)

    def take(self, batch: DrawnBatch, logits: NDArray[np.float32]) -> None:
        rows = slice(self.filled, self.filled + len(logits))
        self.logits[rows], self.params[rows], self.crc[rows] = logits, batch.params, batch.crc
        self.filled += len(logits)


def _teacher_logits(
    teacher: LoadedModel, batch: DrawnBatch, settings: CacheSettings, dataset: ImageDataset
) -> NDArray[np.float32]:
    """Run the teacher over a batch; stop at the first sample whose logits are not finite."""
    logits = forward_logits(
        teacher,
        batch.pixels,
        batch_size=settings.batch_size,
        device=settings.device,
        **dataclasses.asdict(settings.precision),
    )
    values = logits.cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        sample = int(batch.samples[bad[0]])
        raise LogitbankError(
            f"the logits of {dataset.where(sample)} (sample {sample}, view {batch.unit.view}) are "
            f"not finite: {teacher.spec} is broken, or overflows in {settings.precision.name}"
        )
    return values


def _teacher_identity(teacher: LoadedModel, settings: CacheSettings) -> TeacherIdentity:
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
    """Name a device as people do: the GPU's model, or `cpu`."""
    kind = torch.device(device)
    return torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type
