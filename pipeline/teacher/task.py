"""A teacher's task: which network, over which views of which dataset, fills a raw store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from logitbank.pipeline.datasets import ImageDataset, open_dataset
from logitbank.pipeline.datasets.specs import absolute_spec
from logitbank.pipeline.models import LoadedModel, load_model_for
from logitbank.pipeline.models.loading import absolute_model_spec
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.store_task import require_device, require_same_work, require_versions
from logitbank.pipeline.teacher.manifest import raw_manifest, teacher_identity
from logitbank.pipeline.teacher.probe import probe_pixels, teacher_probe
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.teacher.stage import TeacherStage
from logitbank.pipeline.views import Augmentation, augmentation_from
from logitbank.stores.importing import module_of_spec
from logitbank.stores.manifest import Manifest, Measured, Probe


@dataclass(frozen=True)
class DatasetAndTeacher:
    """What is open already in the process that makes a task."""

    dataset: ImageDataset
    teacher: LoadedModel


@dataclass(frozen=True)
class TeacherTask:
    """The units of a raw store: which teacher over which views of which dataset.

    Specs name files by absolute path. `manifest` is the store's, from `raw_manifest`; `probe` is
    the teacher's of `pixels`, views of the first images, in the process that made the task, and
    `versions` are the ones there. `here` is what is open in that process; it is not pickled.
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
            limit: how many samples of the split are used.
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
        """Return the fields to pickle, without `here`."""
        return self.__dict__ | {"here": None}

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The user's own modules that the specs name."""
        return tuple(filter(None, map(module_of_spec, (self.dataset, self.teacher))))

    @property
    def augmentation(self) -> Augmentation:
        """How views are drawn."""
        drawn = self.manifest.augmentation
        return augmentation_from(drawn.name, drawn.parameters)

    def probed(self) -> TeacherTask:
        """Return the task with the teacher's probe in this process, which all others must match.

        Raises:
            DatasetError: an image can't be read.
            LogitbankError: the teacher does not return a row of logits for each image.
        """
        assert self.here is not None, "whoever makes a task has opened it"
        pixels = probe_pixels(self.here.dataset, self.augmentation, self.settings.seed)
        probe = teacher_probe(self.here.teacher, pixels, self.settings.device)
        return dataclasses.replace(self, pixels=pixels, probe=probe)

    def on_device(self, device: str, name: str) -> TeacherTask:
        """Return the task for the device that workers compute on, with its readable name."""
        provenance = dataclasses.replace(self.manifest.provenance, device=name)
        return dataclasses.replace(
            self,
            settings=dataclasses.replace(self.settings, device=device),
            manifest=dataclasses.replace(self.manifest, provenance=provenance),
        )

    def open(self, threads: int | None = None) -> TeacherStage:
        """Load the teacher and open the dataset, unless this process made the task.

        Args:
            threads: that torch computes with; None for as many as it does already.

        Raises:
            LogitbankError: either is not the one in the manifest, the device does not exist, or
                package versions differ.
            StoreError: the teacher's probe is not that of the process that made the task.
        """
        if self.here is not None:
            return TeacherStage(self, self.here.dataset, self.here.teacher)
        require_versions(self.versions)
        require_device(self.settings.device)
        if threads is not None:
            torch.set_num_threads(threads)
        # Each sample is compared with the store's when a unit shows it.
        dataset = open_dataset(self.dataset, self.split, compare_targets=False)
        dataset = dataset if self.limit is None else dataset.head(self.limit)
        teacher = load_model_for(self.teacher, dataset, pretrained=True)
        require_same_work(self._found(dataset, teacher), self.manifest)
        opened = TeacherStage(self, dataset, teacher)
        opened.require_begun(Measured(probe=self.probe))
        return opened

    def _found(self, dataset: ImageDataset, teacher: LoadedModel) -> Manifest:
        """Return the manifest of what was opened."""
        wanted = self.manifest
        # Checking every file of a large dataset takes minutes: `require_samples` checks those of
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
