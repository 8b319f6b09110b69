"""The teacher stage as tasks: what a process needs to compute units of a raw store."""

from __future__ import annotations

import dataclasses
import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset, has_split, open_dataset
from logitbank.pipeline.datasets.folders import FolderDataset
from logitbank.pipeline.models import LoadedModel, load_model_for
from logitbank.pipeline.provenance import shared_versions
from logitbank.pipeline.tasks import attached_writer, require_device, require_versions
from logitbank.pipeline.teacher.accuracy import clean_accuracy
from logitbank.pipeline.teacher.manifest import teacher_identity
from logitbank.pipeline.teacher.probe import teacher_probe
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.teacher.soundness import require_same_teacher, require_sound_teacher
from logitbank.pipeline.teacher.stage import TeacherStage
from logitbank.pipeline.views import Augmentation, Mixed, augmentation_from
from logitbank.stores.chunks import read_chunk
from logitbank.stores.errors import DatasetError, LogitbankError
from logitbank.stores.importing import module_of_spec
from logitbank.stores.layout import Unit, block_bounds, store_arrays
from logitbank.stores.manifest import Manifest, Measured, Probe, identity_differences
from logitbank.stores.units import RemoteUnitWriter, UnitGroup, WrittenUnit


@dataclass(frozen=True)
class TeacherJob:
    """The units of a raw store: which teacher over which views of which dataset.

    Specs name files by their whole path. `manifest` is the store's, of `raw_manifest`; `probe`
    is what the teacher says of `pixels`, views of the first images, in the process that made the
    job, and `versions` are the ones there.
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

    def open(self, threads: int) -> OpenTeacherJob:
        """Load the teacher and open the dataset; torch computes with so many threads.

        Only one task is computed at a time, whoever asks.

        Raises:
            LogitbankError: either is not the one of the manifest, the device is not there, or
                packages have other versions.
            StoreError: the teacher says something else than in the process that made the job.
        """
        require_versions(self.versions)
        require_device(self.settings.device)
        torch.set_num_threads(threads)
        # Each sample is held against the store's as its turn comes.
        dataset = open_dataset(self.dataset, self.split, compare_targets=False)
        dataset = dataset if self.limit is None else dataset.head(self.limit)
        teacher = load_model_for(self.teacher, dataset, pretrained=True)
        self._require_identity(dataset, teacher)
        opened = OpenTeacherJob(self, dataset, teacher)
        opened.require_probe()
        return opened

    @property
    def user_modules(self) -> tuple[str, ...]:
        """The modules of the user's own that the specs name."""
        return tuple(filter(None, map(module_of_spec, (self.dataset, self.teacher))))

    def _require_identity(self, dataset: ImageDataset, teacher: LoadedModel) -> None:
        wanted = self.manifest
        # Looking at every file of a large set takes minutes: `compute` looks at those it reads.
        is_cheap = dataset.images is not None
        found = dataclasses.replace(
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
        differences = identity_differences(found, wanted, platform.node())
        if differences:
            raise LogitbankError(f"a worker opens other work: {'; '.join(differences)}")


class OpenTeacherJob:
    """A `TeacherJob` that a process has opened."""

    def __init__(self, job: TeacherJob, dataset: ImageDataset, teacher: LoadedModel) -> None:
        self._job, self._dataset, self._teacher = job, dataset, teacher
        augmentation = job.manifest.augmentation
        drawn = augmentation_from(augmentation.name, augmentation.parameters)
        self._stage = TeacherStage(dataset, teacher, drawn, job.settings, job.manifest)
        self._lock = threading.Lock()
        self._stores: dict[str, _SharedStore] = {}

    def require_probe(self) -> None:
        """Require the teacher to say here what it says where the job was made.

        Raises:
            LogitbankError, StoreError: it doesn't, as `require_same_teacher`.
        """
        job = self._job
        if job.probe is None or job.pixels is None:
            return
        require_same_teacher(
            teacher_probe(self._teacher, job.pixels, job.settings.device),
            job.probe,
            self._teacher,
            job.pixels,
            job.settings,
            f"{job.store}, as {platform.node()} sees it,",
        )

    def compute(self, groups: Sequence[UnitGroup], created: str) -> list[WrittenUnit]:
        """Compute groups of units.

        Raises:
            DatasetError: the samples are not those of the store, or an image can't be read.
            LogitbankError, StoreError: as `TeacherStage.compute`, or the store is not there.
        """
        with self._lock:
            if created not in self._stores:
                self._stores[created] = _SharedStore.of(self._job, created)
            store = self._stores[created]
            for unit in (unit for group in groups for unit in group):
                store.require_samples(self._dataset, self._stage.augmentation, unit)
            return self._stage.compute(groups, store.writer)

    def clean_accuracy(self, most: int | None) -> Measured:
        """Measure the teacher as `pipeline.teacher.clean_accuracy` does, on the evaluation split.

        Without such a split it is measured on the job's own.

        Raises:
            LogitbankError: it is no function of the image, gives no logits, or numbers its classes
                otherwise than the dataset.
        """
        job, clean = self._job, self._dataset
        if has_split(job.dataset, "test"):
            clean = open_dataset(job.dataset, "test", compare_targets=False)
        with self._lock:
            if job.pixels is not None:
                require_sound_teacher(self._teacher, job.pixels, job.settings)
            return clean_accuracy(self._teacher, clean, job.settings, most)

    def close(self) -> None:
        """End the threads that render."""
        self._stage.close()


@dataclass(frozen=True)
class _SharedStore:
    """The store being filled, as this process sees it, and the samples it is of."""

    writer: RemoteUnitWriter
    target: NDArray[np.int32]
    sample_id: NDArray[np.uint64]

    @classmethod
    def of(cls, job: TeacherJob, created: str) -> _SharedStore:
        writer = attached_writer(job.store, job.manifest, created)
        arrays = store_arrays(job.manifest)
        target, sample_id = (
            read_chunk(writer.files, arrays[name], (0,), None) for name in ("target", "sample_id")
        )
        return cls(writer, target, sample_id)

    @cached_property
    def _checked_blocks(self) -> set[int]:
        return set()

    def require_samples(
        self, dataset: ImageDataset, augmentation: Augmentation, unit: Unit
    ) -> None:
        """Require the samples that a unit shows to be those that the store's labels are of.

        Raises:
            DatasetError: another label, or another file.
        """
        manifest = self.writer.manifest
        rows = np.arange(*block_bounds(manifest, unit.block))
        if unit.block not in self._checked_blocks:
            self._require(dataset, rows)
            self._checked_blocks.add(unit.block)
        if isinstance(augmentation, Mixed):
            seed = manifest.augmentation.seed
            partners, _ = augmentation.draw_mix(seed, rows, unit.view)
            self._require(dataset, np.unique(partners))

    def _require(self, dataset: ImageDataset, rows: NDArray[np.int64]) -> None:
        wrong = dataset.targets[rows] != self.target[rows]
        if isinstance(dataset, FolderDataset):
            wrong |= dataset.ids_of(rows) != self.sample_id[rows]
        if wrong.any():
            sample = int(rows[wrong.argmax()])
            raise DatasetError(
                f"{dataset.describe(sample)} on {platform.node()} is not sample {sample} of the "
                "store being made: every worker must see the same files"
            )
