"""Computing units: views made ahead by threads while the teacher runs, finished blocks written."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.read_ahead import read_ahead
from logitbank.pipeline.store_task import Write, ignore_rows, never
from logitbank.pipeline.teacher.blocks import (
    Block,
    DrawnBatch,
    unit_groups,
    views_together,
    work_order,
)
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.views import Augmentation, ViewRenderer, pixel_crc
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import Manifest
from logitbank.stores.units import UnitGroup, WrittenUnit

BATCHES_AHEAD = 4


class TeacherStage:
    """A teacher and a dataset, opened to compute units of one store; opened once a process.

    A unit's bytes depend on nothing but what it is opened with: not on which units are computed
    before or beside it, nor by how many processes. Only one thread may compute at a time.

    Args:
        dataset: the split of the store.
        teacher: a pretrained network.
        augmentation: how views are drawn.
        settings: those of the store's manifest.
        manifest: the store's, of `raw_manifest`.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        teacher: LoadedModel,
        augmentation: Augmentation,
        settings: CacheSettings,
        manifest: Manifest,
    ) -> None:
        self.dataset, self.teacher = dataset, teacher
        self.augmentation, self.settings, self.manifest = augmentation, settings, manifest
        self._together = views_together(dataset, settings, manifest)
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="render")
        self._renderer = ViewRenderer(dataset, augmentation, pool=self._pool)

    def __enter__(self) -> TeacherStage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads that render."""
        self._pool.shutdown(cancel_futures=True)

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Order units and group those that are computed together."""
        return unit_groups(work_order(units, self.dataset), self._together)

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> list[WrittenUnit]:
        """Compute groups of units, one after the other, and write them.

        Args:
            groups: of `groups`, or any others within a block each.
            write: called with each unit and its arrays, one after the other.
            progress: called with the number of rows that the teacher has just computed.
            stop: asked after each group whether to leave out those that follow.

        Returns:
            What `write` returned, in order.

        Raises:
            DatasetError: an image can't be read.
            LogitbankError: a sample's logits are not finite, or don't fit the encoding; or a batch
                doesn't fit the device.
            StoreError: a file can't be written.
        """
        written: list[WrittenUnit] = []
        writes: deque[Future[WrittenUnit]] = deque()
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
                    written.append(writes.popleft().result())
                if not blocks and stop():
                    break
            return written + [write.result() for write in writes]

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

    def _write(self, write: Write, block: Block) -> WrittenUnit:
        return write(block.unit, block.values(self.dataset, self.augmentation, self.manifest))
