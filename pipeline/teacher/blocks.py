"""Units of a teacher's run: their order, their groups, and their rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.teacher.settings import CacheSettings
from logitbank.pipeline.views import Augmentation, main_labels
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import LogitOutOfRangeError, encoding_named
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import Manifest
from logitbank.stores.units import UnitGroup, UnitValues

GROUP_BYTES = 2**30


def work_order(units: Iterable[Unit], dataset: ImageDataset) -> list[Unit]:
    """Order units for computing and distribution: view by view, files block by block.

    All views of a block of image files follow each other, so that a run of units, in whatever
    process, reads few files and decodes each for several views.
    """
    if dataset.images is not None:
        return sorted(units)
    return sorted(units, key=attrgetter("block", "view"))


def views_together(dataset: ImageDataset, settings: CacheSettings, manifest: Manifest) -> int:
    """Return how many views of a block are computed together, with images decoded once.

    Images in memory need no decoding. The float32 logits of a group take `GROUP_BYTES` at most.
    """
    if dataset.images is not None:
        return 1
    block_bytes = 4 * manifest.rows_per_chunk * manifest.dataset.classes
    return max(1, min(settings.views_per_decode, GROUP_BYTES // block_bytes))


def unit_groups(units: Iterable[Unit], together: int) -> list[UnitGroup]:
    """Cut units into groups: runs of one block, of up to `together` units.

    A group's images are decoded once for all of its views.

    >>> units = [Unit(0, 0), Unit(1, 0), Unit(2, 0), Unit(0, 1)]
    >>> [[(unit.view, unit.block) for unit in group] for group in unit_groups(units, 2)]
    [[(0, 0), (1, 0)], [(2, 0)], [(0, 1)]]
    """
    groups: list[UnitGroup] = []
    for _, run in groupby(units, key=attrgetter("block")):
        views = tuple(run)
        groups += [views[first : first + together] for first in range(0, len(views), together)]
    return groups


@dataclass(frozen=True)
class DrawnBatch:
    """Views of some samples of a unit: drawn parameters, pixels and checksums."""

    unit: Unit
    samples: NDArray[np.int64]
    pixels: torch.Tensor
    params: NDArray[Any]
    crc: NDArray[np.uint32]


@dataclass
class Block:
    """The rows of one unit, filled batch by batch."""

    unit: Unit
    start: int
    logits: NDArray[np.float32]
    params: NDArray[Any]
    crc: NDArray[np.uint32]
    filled: int = 0

    @classmethod
    def empty(cls, unit: Unit, manifest: Manifest) -> Block:
        """Allocate room for the rows of a unit."""
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
        """Whether every row is filled."""
        return self.filled == len(self.logits)

    def take(self, batch: DrawnBatch, logits: NDArray[np.float32]) -> None:
        """Fill in the rows of the next batch."""
        rows = slice(self.filled, self.filled + len(logits))
        self.logits[rows], self.params[rows], self.crc[rows] = logits, batch.params, batch.crc
        self.filled += len(logits)

    def values(
        self, dataset: ImageDataset, augmentation: Augmentation, manifest: Manifest
    ) -> UnitValues:
        """Rank and encode the rows of a full block, as they are stored.

        A mixed view is right if the label of its larger share comes first.

        Raises:
            LogitbankError: a logit doesn't fit the encoding; the sample is named.
        """
        samples = np.arange(self.start, self.start + len(self.logits))
        target = main_labels(augmentation, dataset.targets, samples, self.params)
        try:
            codes = encoding_named(manifest.encoding).encode(self.logits)
        except LogitOutOfRangeError as error:
            where = dataset.where(self.start + error.row)
            raise LogitbankError(f"{where}, view {self.unit.view}: {error}") from error
        return {
            "view_params": self.params,
            "pixel_crc": self.crc,
            "top": top_classes(self.logits, target, manifest.top_classes),
            **codes,
        }
