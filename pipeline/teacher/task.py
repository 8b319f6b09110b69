"""A teacher's task: which network over which views of which dataset fills a raw store."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset, has_split, open_dataset
from logitbank.pipeline.datasets.specs import absolute_spec
from logitbank.pipeline.models import LoadedModel, load_model_for
from logitbank.pipeline.models.loading import absolute_model_spec
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.store_task import (
    Write,
    ignore_rows,
    never,
    require_device,
    require_same_work,
    require_versions,
)
from logitbank.pipeline.teacher.accuracy import clean_accuracy
from logitbank.pipeline.teacher.manifest import raw_manifest, teacher_identity
from logitbank.pipeline.teacher.probe import probe_pixels, teacher_probe
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.teacher.soundness import require_same_teacher, require_sound_teacher
from logitbank.pipeline.teacher.stage import TeacherStage
from logitbank.pipeline.teacher.stored_samples import StoredSamples
from logitbank.pipeline.views import Augmentation, augmentation_from, main_labels
from logitbank.stores.importing import module_of_spec
from logitbank.stores.layout import Unit
from logitbank.stores.manifest import Manifest, Measured, Probe
from logitbank.stores.units import UnitGroup, UnitWriter, WrittenUnit
from logitbank.stores.writer import StoreWriter

TRIAL_SAMPLES = 1_000
"""Samples of the evaluation split that a trial on a few samples is measured on, at most."""


@dataclass(frozen=True)
class DatasetAndTeacher:
    """What the process that makes a task has open already."""

    dataset: ImageDataset
    teacher: LoadedModel


@dataclass(frozen=True)
class TeacherTask:
    """The units of a raw store: which teacher over which views of which dataset.

    Specs name files by their whole path. `manifest` is the store's, of `raw_manifest`; `probe` is
    what the teacher says of `pixels`, views of the first images, in the process that made the task,
    and `versions` are the ones there. `here` is what is open in that process and stays in it.
    """

    dataset: str
    split: str
    limit: int | None
    teacher: str
    settings: CacheSettings
    manifest: Manifest
    store: str
    probe: Probe | None = None
    pixels: torch.Tensor | None = None
    versions: Mapping[str, str] = field(default_factory=shared_versions)
    here: DatasetAndTeacher | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        teacher: LoadedModel,
        augmentation: Augmentation,
        settings: CacheSettings,
        store: str,
        *,
        dataset_spec: str = "",
        split: str | None = None,
        limit: int | None = None,
        computed_on: str | None = None,
    ) -> TeacherTask:
        """Describe the task of a dataset and a teacher that are open in this process.

        Args:
            dataset: the split.
            teacher: a pretrained network.
            augmentation: how views are drawn.
            settings: what is cached and how.
            store: where the store lies or will lie.
            dataset_spec: what other processes open the dataset by, if any do.
            split: likewise; None for the dataset's own name of it.
            limit: the samples that were taken of the split.
            computed_on: as `raw_manifest`.

        Raises:
            UsageError: as `raw_manifest`.
        """
        return cls(
            dataset=dataset_spec and absolute_spec(dataset_spec),
            split=split or dataset.split,
            limit=limit,
            teacher=absolute_model_spec(teacher.spec),
            settings=settings,
            manifest=raw_manifest(dataset, teacher, augmentation, settings, computed_on),
            store=store,
            here=DatasetAndTeacher(dataset, teacher),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields that other processes get."""
        return self.__dict__ | {"here": None}

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The modules of the user's own that the specs name."""
        return tuple(filter(None, map(module_of_spec, (self.dataset, self.teacher))))

    @property
    def augmentation(self) -> Augmentation:
        """How views are drawn."""
        drawn = self.manifest.augmentation
        return augmentation_from(drawn.name, drawn.parameters)

    def probed(self) -> TeacherTask:
        """Return the task with what its teacher says in this process, which all others must say.

        Raises:
            DatasetError: an image can't be read.
            LogitbankError: the teacher gives no row of logits for each image.
        """
        assert self.here is not None, "whoever makes a task has opened it"
        pixels = probe_pixels(self.here.dataset, self.augmentation, self.settings.seed)
        probe = teacher_probe(self.here.teacher, pixels, self.settings.device)
        return dataclasses.replace(self, pixels=pixels, probe=probe)

    def on_device(self, device: str, name: str) -> TeacherTask:
        """Return the task with the device that others compute it on, and its name for people."""
        provenance = dataclasses.replace(self.manifest.provenance, device=name)
        return dataclasses.replace(
            self,
            settings=dataclasses.replace(self.settings, device=device),
            manifest=dataclasses.replace(self.manifest, provenance=provenance),
        )

    def open(self, threads: int | None = None) -> OpenTeacherTask:
        """Load the teacher and open the dataset, unless this process made the task.

        Args:
            threads: that torch computes with; None for as many as it does already.

        Raises:
            LogitbankError: either is not the one of the manifest, the device is not there, or
                packages have other versions.
            StoreError: the teacher says something else than in the process that made the task.
        """
        if self.here is not None:
            return OpenTeacherTask(self, self.here.dataset, self.here.teacher)
        require_versions(self.versions)
        require_device(self.settings.device)
        if threads is not None:
            torch.set_num_threads(threads)
        # Each sample is held against the store's as its turn comes.
        dataset = open_dataset(self.dataset, self.split, compare_targets=False)
        dataset = dataset if self.limit is None else dataset.head(self.limit)
        teacher = load_model_for(self.teacher, dataset, pretrained=True)
        require_same_work(self._found(dataset, teacher), self.manifest)
        opened = OpenTeacherTask(self, dataset, teacher)
        opened.require_begun(Measured(probe=self.probe))
        return opened

    def _found(self, dataset: ImageDataset, teacher: LoadedModel) -> Manifest:
        """Return the manifest of what was opened."""
        wanted = self.manifest
        # Looking at every file of a large set takes minutes: `require_samples` looks at those of
        # the units that are computed.
        is_cheap = dataset.images is not None
        return dataclasses.replace(
            wanted,
            dataset=dataclasses.replace(
                wanted.dataset,
                name=dataset.name,
                split=dataset.split,
                samples=len(dataset),
                classes=len(dataset.classes),
                fingerprint=dataset.fingerprint if is_cheap else wanted.dataset.fingerprint,
            ),
            teacher=teacher_identity(teacher, self.settings),
        )


class OpenTeacherTask:
    """A `TeacherTask` that a process has opened; only one thread may compute at a time."""

    def __init__(self, task: TeacherTask, dataset: ImageDataset, teacher: LoadedModel) -> None:
        self._task, self._dataset, self._teacher = task, dataset, teacher
        self._stage = TeacherStage(
            dataset, teacher, task.augmentation, task.settings, task.manifest
        )
        self._stored: StoredSamples | None = None

    @property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Return (N,) labels and (N,) ids."""
        return self._dataset.targets, self._dataset.sample_ids

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Order units and group those that share a decoding."""
        return self._stage.groups(units)

    def check(self, units: Sequence[Unit]) -> Measured:
        """Try the teacher and measure it on centre crops, of the evaluation split if there is one.

        Raises:
            LogitbankError: it is no function of the image, gives no logits, or numbers its classes
                otherwise than the dataset.
        """
        task, clean = self._task, self._dataset
        if task.pixels is not None:
            require_sound_teacher(self._teacher, task.pixels, task.settings)
        if has_split(task.dataset, "test"):
            clean = open_dataset(task.dataset, "test", compare_targets=task.here is not None)
        # A trial on a few samples should not wait for the whole of ImageNet's evaluation split.
        most = None if task.limit is None else max(task.limit, TRIAL_SAMPLES)
        measured = clean_accuracy(self._teacher, clean, task.settings, most)
        return dataclasses.replace(measured, probe=task.probe)

    def is_checked(self, measured: Measured) -> bool:
        """Whether the teacher's accuracy and its probe are known."""
        return measured.clean_top1 is not None and measured.probe is not None

    def require_begun(self, measured: Measured) -> None:
        """Check that the teacher says here what the one that began the store said.

        Raises:
            LogitbankError, StoreError: it doesn't, as `require_same_teacher`.
        """
        task = self._task
        if measured.probe is None or task.pixels is None:
            return
        seen_here = "" if task.here is not None else f", as {platform.node()} sees it,"
        require_same_teacher(
            self._probe,
            measured.probe,
            self._teacher,
            task.pixels,
            task.settings,
            f"{task.store}{seen_here}",
        )

    @cached_property
    def _probe(self) -> Probe:
        """What the teacher says in this process."""
        task = self._task
        if task.here is not None and task.probe is not None:
            return task.probe
        assert task.pixels is not None, "asked for only where there are any"
        return teacher_probe(self._teacher, task.pixels, task.settings.device)

    def require_samples(self, store: UnitWriter, units: Iterable[Unit]) -> None:
        """Check that some units are of the same samples here as in a store begun elsewhere.

        Raises:
            DatasetError, StoreError: as `StoredSamples.require`.
        """
        if self._stored is None or self._stored.store is not store:
            self._stored = StoredSamples(store)
        self._stored.require(self._dataset, self._stage.augmentation, units)

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> list[WrittenUnit]:
        """Compute groups of units, as `TeacherStage.compute`."""
        return self._stage.compute(groups, write, progress=progress, stop=stop)

    def seal(self, writer: StoreWriter) -> Manifest:
        """Seal the store; of a mixed view the label of the larger share is the one that counts.

        Raises:
            StoreError: as `StoreWriter.seal`.
        """
        is_mixed = self._task.manifest.augmentation.is_mixed
        return writer.seal(partial(main_labels, self._stage.augmentation) if is_mixed else None)

    def close(self) -> None:
        """End the threads that render."""
        self._stage.close()
