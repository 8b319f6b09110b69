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
from logitbank.stores.errors import UsageError
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.writer import StoreWriter

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.teacher import CacheSettings, FirstWord


@contextmanager
def teacher_on_cluster(
    options: argparse.Namespace,
    dataset: ImageDataset,
    settings: CacheSettings,
    wanted: Manifest,
    first: FirstWord,
) -> Iterator[TeacherOnCluster | None]:
    """Give the teacher's workers if a cluster is asked for, None where this process computes.

    The cluster is opened when it is first needed: nobody queues for a store that is complete.
    """
    if options.cluster is None:
        yield None
        return
    with ExitStack() as stack:
        yield TeacherOnCluster(options, dataset, settings, wanted, first, stack)


class TeacherOnCluster:
    """A teacher whose passes are made by a cluster's workers.

    Args:
        options: of the job `cache`.
        dataset: the split, as this machine sees it.
        settings: of the store's manifest; the workers tell the device.
        wanted: the store's manifest.
        first: what the teacher says in this process; each worker's must say the same.
        stack: closes what is opened.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        dataset: ImageDataset,
        settings: CacheSettings,
        wanted: Manifest,
        first: FirstWord,
        stack: ExitStack,
    ) -> None:
        self._options, self._dataset, self._first = options, dataset, first
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
            probe=self._first.probe,
            pixels=self._first.pixels,
        )
        return self._stack.enter_context(self._workers.job(job))


@contextmanager
def correction_on_cluster(
    options: argparse.Namespace, wanted: Manifest
) -> Iterator[CorrectionOnCluster | None]:
    """Give the workers that correct if a cluster is asked for, None where this process computes.

    The cluster is opened when it is first needed, as `teacher_on_cluster` does.

    Raises:
        UsageError: the raw store lies where no worker can read it.
    """
    if options.cluster is None:
        yield None
        return
    parent = shared_location(options.store)
    with ExitStack() as stack:
        yield CorrectionOnCluster(options, parent, wanted, stack)


class CorrectionOnCluster:
    """A correction whose units are computed by a cluster's workers.

    Args:
        options: of the job `correct`.
        parent: the raw store's whole path or URL.
        wanted: the corrected store's manifest.
        stack: closes what is opened.
    """

    def __init__(
        self, options: argparse.Namespace, parent: str, wanted: Manifest, stack: ExitStack
    ) -> None:
        self._options, self._parent, self._wanted = options, parent, wanted
        self._stack = stack

    def require(self) -> None:
        """Require workers that can compute, one of which opens the raw store.

        Raises:
            LogitbankError: as `open_workers`, or what keeps the worker from it.
        """
        self._job.require()

    def compute(self, writer: StoreWriter, progress: Progress) -> None:
        """Have the units that a store lacks computed, and close the cluster.

        Raises:
            LogitbankError: as `open_workers` and `OpenedJob.compute`.
        """
        if writer.lacking:
            self._job.compute([(unit,) for unit in writer.lacking], writer, progress)
        self._stack.close()

    @cached_property
    def _job(self) -> OpenedJob:
        from logitbank.pipeline.preprocess_job import CorrectionJob

        options = self._options
        job = CorrectionJob(
            parent=self._parent,
            correction=options.correction,
            manifest=self._wanted,
            store=str(Path(options.out).absolute()),
            device=options.device,
            batch_rows=options.batch_rows,
        )
        workers = self._stack.enter_context(
            open_workers(options.cluster, options.device, options.performance_report)
        )
        return self._stack.enter_context(workers.job(job))


def shared_location(location: str) -> str:
    """Give a store's location as workers know it: a whole path, or a URL as it is.

    >>> shared_location("s3://bucket/raw.zarr")
    's3://bucket/raw.zarr'

    Raises:
        UsageError: it lies in this process's memory.
    """
    if "memory://" in location:
        raise UsageError(
            f"{location} lies in the memory of this process, where no worker can read it: leave "
            "--cluster out, or give a store that the workers can read"
        )
    return absolute_location(location)
