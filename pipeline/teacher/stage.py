"""The teacher stage: threads render ahead while the teacher runs, and blocks are written."""

from __future__ import annotations

import dataclasses
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset, has_split, open_dataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.read_ahead import read_ahead
from logitbank.pipeline.store_task import Write, ignore_rows, never
from logitbank.pipeline.teacher.accuracy import clean_accuracy
from logitbank.pipeline.teacher.blocks import (
    Block,
    DrawnBatch,
    unit_groups,
    views_together,
    work_order,
)
from logitbank.pipeline.teacher.probe import teacher_probe
from logitbank.pipeline.teacher.soundness import require_same_teacher, require_sound_teacher
from logitbank.pipeline.teacher.stored_samples import StoredSamples
from logitbank.pipeline.views import ViewRenderer, main_labels, pixel_crc
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import Manifest, Measured, Probe
from logitbank.stores.units import UnitGroup, UnitWriter
from logitbank.stores.writer import StoreWriter

if TYPE_CHECKING:
    from logitbank.pipeline.teacher.task import TeacherTask

BATCHES_AHEAD = 4
TRIAL_SAMPLES = 1_000
"""Samples of the evaluation split that a trial on a few samples is measured on, at most."""


class TeacherStage:
    """A `TeacherTask` opened in a process; only one thread may compute at a time.

    A unit's bytes depend on nothing but what it is opened with: not on which units are computed
    before or beside it, nor by how many processes.

    Args:
        task: the task whose units are computed.
        dataset: the split of the store.
        teacher: a pretrained network.
    """

    def __init__(self, task: TeacherTask, dataset: ImageDataset, teacher: LoadedModel) -> None:
        self.task, self.dataset, self.teacher = task, dataset, teacher
        self.settings, self.manifest = task.settings, task.manifest
        self.augmentation = task.augmentation
        self._together = views_together(dataset, task.settings, task.manifest)
        self._pool = ThreadPoolExecutor(task.settings.workers, thread_name_prefix="render")
        self._renderer = ViewRenderer(dataset, self.augmentation, pool=self._pool)
        self._stored: StoredSamples | None = None

    @property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Return (N,) labels and (N,) ids."""
        return self.dataset.targets, self.dataset.sample_ids

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Order units and group those that share a decoding."""
        return unit_groups(work_order(units, self.dataset), self._together)

    def require_sources(self, units: Iterable[Unit]) -> None:
        """Do nothing: images are checked as they are read."""

    def check(self) -> Measured:
        """Try the teacher and measure it on centre crops, of the evaluation split if there is one.

        Raises:
            LogitbankError: it is not a function of the image, does not return logits, or numbers
                its classes differently from the dataset.
        """
        task, clean = self.task, self.dataset
        if task.pixels is not None:
            require_sound_teacher(self.teacher, task.pixels, task.settings)
        if has_split(task.dataset, "test"):
            clean = open_dataset(task.dataset, "test", compare_targets=task.here is not None)
        # A trial on a few samples should not wait for the whole of ImageNet's evaluation split.
        most = None if task.limit is None else max(task.limit, TRIAL_SAMPLES)
        measured = clean_accuracy(self.teacher, clean, task.settings, most)
        return dataclasses.replace(measured, probe=task.probe)

    def is_checked(self, measured: Measured) -> bool:
        """Return whether the teacher's accuracy and its probe are known."""
        return measured.clean_top1 is not None and measured.probe is not None

    def require_begun(self, measured: Measured) -> None:
        """Check that the teacher has the probe of the one that began the store.

        Raises:
            LogitbankError, StoreError: it does not, as `require_same_teacher`.
        """
        task = self.task
        if measured.probe is None or task.pixels is None:
            return
        seen_here = "" if task.here is not None else f", as {platform.node()} sees it,"
        require_same_teacher(
            self._probe,
            measured.probe,
            self.teacher,
            task.pixels,
            task.settings,
            f"{task.store}{seen_here}",
        )

    @cached_property
    def _probe(self) -> Probe:
        """The teacher's probe in this process."""
        task = self.task
        if task.here is not None and task.probe is not None:
            return task.probe
        assert task.pixels is not None, "asked for only where there are any"
        return teacher_probe(self.teacher, task.pixels, task.settings.device)

    def require_samples(self, store: UnitWriter, units: Iterable[Unit]) -> None:
        """Check that units have the same samples here as in a store begun elsewhere.

        Raises:
            DatasetError, StoreError: as `StoredSamples.require`.
        """
        if self._stored is None or self._stored.store is not store:
            self._stored = StoredSamples(store)
        self._stored.require(self.dataset, self.augmentation, units)

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Compute groups of units, one after the other, and write them in another thread.

        Raises:
            DatasetError: an image can't be read.
            LogitbankError: a sample's logits are not finite, or don't fit the encoding; or a batch
                doesn't fit the device.
            StoreError: a file can't be written.
        """
        writes: deque[Future[None]] = deque()
        blocks: dict[Unit, Block] = {}
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            for batch in read_ahead(self._batches(groups), max(BATCHES_AHEAD, self._together)):
                if batch.unit not in blocks:
                    blocks[batch.unit] = Block.empty(batch.unit, self.manifest)
                blocks[batch.unit].take(batch, self._logits(batch))
                progress(len(batch.samples))
                if blocks[batch.unit].is_full:
                    writes.append(pool.submit(self._write, write, blocks.pop(batch.unit)))
                # One block is written while the next is computed; a failed write is soon noticed.
                while writes and (len(writes) > 1 or writes[0].done()):
                    writes.popleft().result()
                if not blocks and stop():
                    break
            for each in writes:
                each.result()

    def seal(self, writer: StoreWriter) -> Manifest:
        """Seal the store; of a mixed view the label of the larger share is the one that counts.

        Raises:
            StoreError: as `StoreWriter.seal`.
        """
        is_mixed = self.manifest.augmentation.is_mixed
        return writer.seal(partial(main_labels, self.augmentation) if is_mixed else None)

    def close(self) -> None:
        """Stop the threads that render."""
        self._pool.shutdown(cancel_futures=True)

    def _batches(self, groups: Iterable[UnitGroup]) -> Iterator[DrawnBatch]:
        """Draw and render the views of some groups, in batches that end with their block."""
        seed, batch_size = self.manifest.augmentation.seed, self.settings.batch_size
        for group in groups:
            start, stop = block_bounds(self.manifest, group[0].block)
            views = [unit.view for unit in group]
            for first in range(start, stop, batch_size):
                samples = np.arange(first, min(first + batch_size, stop))
                drawn = self._renderer.draw_views(seed, views, samples)
                for unit, (pixels, params) in zip(group, drawn, strict=True):
                    yield DrawnBatch(unit, samples, pixels, params, pixel_crc(pixels))

    def _logits(self, batch: DrawnBatch) -> NDArray[np.float32]:
        """Run the teacher over a batch; stop at the first sample whose logits are not finite."""
        settings, teacher = self.settings, self.teacher
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
                f"the logits of {self.dataset.where(sample)} (sample {sample}, view "
                f"{batch.unit.view}) are not finite: {teacher.spec} is broken, or overflows in "
                f"{settings.precision.name}"
            )
        return values

    def _write(self, write: Write, block: Block) -> None:
        write(block.unit, block.values(self.dataset, self.augmentation, self.manifest))
