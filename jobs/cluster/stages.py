"""The stages of `cache` and `correct` with their units computed by a cluster's workers."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.cluster.running import OpenedJob, Progress, Workers, open_workers
from logitbank.jobs.cluster.where import planned_device
from logitbank.jobs.paths import absolute_location
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.writer import StoreWriter

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.teacher import CacheSettings


@contextmanager
def teacher_on_cluster(
    options: argparse.Namespace, dataset: ImageDataset, settings: CacheSettings, wanted: Manifest
) -> Iterator[TeacherOnCluster | None]:
    """Give the teacher's workers if a cluster is asked for, None where this process computes.

    The cluster is opened when it is first needed: nobody queues for a store that is complete.
    """
    if options.cluster is None:
        yield None
        return
    with ExitStack() as stack:
        yield TeacherOnCluster(options, dataset, settings, wanted, stack)


class TeacherOnCluster:
    """A teacher whose passes are made by a cluster's workers.

    Args:
        options: of the job `cache`.
        dataset: the split, as this machine sees it.
        settings: of the store's manifest; the workers tell the device.
        wanted: the store's manifest.
        stack: closes what is opened.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        dataset: ImageDataset,
        settings: CacheSettings,
        wanted: Manifest,
        stack: ExitStack,
    ) -> None:
        self._options, self._dataset = options, dataset
        self._settings, self._wanted, self._stack = settings, wanted, stack

    def clean_accuracy(self, most: int | None) -> Measured:
        """Have a worker measure the teacher on centre crops, of `most` samples at most."""
        return self._job.measure(most)

    def described(self, manifest: Manifest) -> Manifest:
        """Give a manifest that names the devices of the workers."""
        provenance = dataclasses.replace(manifest.provenance, device=self._workers.device_name)
        return dataclasses.replace(manifest, provenance=provenance)

    def compute(self, writer: StoreWriter, progress: Progress) -> None:
        """Have the units that a store lacks computed, and close the cluster.

        Raises:
            LogitbankError: as `OpenedJob.compute`.
        """
        from logitbank.pipeline.teacher.blocks import unit_groups, views_together, work_order

        if writer.lacking:
            together = views_together(self._dataset, self._settings, self._wanted)
            groups = unit_groups(work_order(writer.lacking, self._dataset), together)
            self._job.compute(groups, writer, progress)
        # Nobody needs the workers while the store is sealed.
        self._stack.close()

    @cached_property
    def _workers(self) -> Workers:
        options = self._options
        return self._stack.enter_context(
            open_workers(options.cluster, planned_device(options), options.performance_report)
        )

    @cached_property
    def _job(self) -> OpenedJob:
        from logitbank.pipeline.datasets.specs import absolute_spec
        from logitbank.pipeline.models.loading import absolute_model_spec
        from logitbank.pipeline.teacher.job import TeacherJob

        options = self._options
        job = TeacherJob(
            dataset=absolute_spec(options.dataset),
            split=options.split,
            limit=options.limit,
            teacher=absolute_model_spec(options.teacher),
            settings=dataclasses.replace(self._settings, device=self._workers.device),
            manifest=self._wanted,
            store=str(Path(options.out).absolute()),
        )
        return self._stack.enter_context(self._workers.job(job))


def correct_on_cluster(
    options: argparse.Namespace, writer: StoreWriter, progress: Progress
) -> None:
    """Have the units that a corrected store lacks computed by a cluster.

    Args:
        options: of the job `correct`.
        writer: the corrected store being made.
        progress: called with the units done in this run and their number.

    Raises:
        LogitbankError: as `open_workers` and `OpenedJob.compute`.
    """
    from logitbank.pipeline.preprocess_job import CorrectionJob

    if not writer.lacking:
        return
    job = CorrectionJob(
        parent=absolute_location(options.store),
        correction=options.correction,
        manifest=writer.manifest,
        store=str(Path(options.out).absolute()),
        device=options.device,
        batch_rows=options.batch_rows,
    )
    with (
        open_workers(options.cluster, options.device, options.performance_report) as workers,
        workers.job(job) as opened,
    ):
        opened.compute([(unit,) for unit in writer.lacking], writer, progress)
