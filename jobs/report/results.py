"""The results that a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.manifest import Manifest

TEMPERATURE = 4.0
"""The temperature of Hinton's distillation on CIFAR, the default for drawing distributions."""


@dataclass(frozen=True)
class StudentRun:
    """A finished run: top-1 in percent of its best and its last epoch.

    `method` names what the student learned from; runs of one method differ only in their seed.
    `metrics` is the run's `metrics.jsonl`, where the figures come from.
    """

    method: str
    seed: int
    best_top1: float
    last_top1: float
    epochs: int
    metrics: str


@dataclass(frozen=True)
class StoreOnDisk:
    """A complete store and the bytes of its files; `other_bytes` are those outside of arrays."""

    name: str
    manifest: Manifest
    array_bytes: Mapping[str, int]
    other_bytes: int

    @property
    def rows(self) -> int:
        """V x N, the number of rows of logits."""
        return self.manifest.views * self.manifest.dataset.samples

    @property
    def total_bytes(self) -> int:
        """The bytes of all files of the store."""
        return sum(self.array_bytes.values()) + self.other_bytes


@dataclass(frozen=True, eq=False)
class Mistake:
    """A view on which the teacher was wrong, before and after correction.

    `pixels` (S, S, 3) uint8 is what it saw; `logits` holds (C,) float32 by store name, the raw
    store first; `rank` is the label's place in the teacher's own order, 2 or more.
    """

    sample: int
    view: int
    pixels: NDArray[np.uint8]
    label: int
    rank: int
    logits: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Throughput:
    """Images per second of training, (R,) rates for each way, interleaved round by round.

    The first way is the reference; a way that repeats the same work shows the noise. `conditions`
    describes what was timed.
    """

    ways: Mapping[str, tuple[float, ...]]
    cached: str
    in_the_loop: str
    conditions: str

    @property
    def reference(self) -> str:
        """The way that the others are compared with."""
        return next(iter(self.ways))

    def ratios(self, way: str) -> tuple[float, ...]:
        """Return the ratio of a way's rate to the reference's, for each round."""
        pairs = zip(self.ways[way], self.ways[self.reference], strict=True)
        return tuple(rate / reference for rate, reference in pairs)


@dataclass(frozen=True)
class TeacherCost:
    """The cost of the teacher: forward passes, and seconds if they were measured.

    `samples` N and `views` V were cached once, and `students` learned from the cache for `epochs` E
    each. `cache_seconds` is the time of making the stores, None if it was not timed as a whole.
    """

    samples: int
    views: int
    epochs: int
    students: int
    cache_seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """The content of a page; what was not measured is empty or None, and has no section.

    `comparisons` are pairs of methods, reported as first minus second. `test_samples` is the number
    of test samples, if known. `classes` are the class names that `mistakes` need. `temperature` is
    that of the distributions shown. `setting` holds facts of the set-up by name, `commands` the
    command lines that made the results, `stages` the seconds that each stage took.
    """

    title: str
    introduction: str
    stores: tuple[StoreOnDisk, ...]
    caveat: str = ""
    runs: tuple[StudentRun, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()
    test_samples: int | None = None
    classes: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    temperature: float = TEMPERATURE
    throughput: Throughput | None = None
    cost: TeacherCost | None = None
    setting: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def raw(self) -> StoreOnDisk | None:
        """The first raw store, None if all are corrected."""
        raws = (store for store in self.stores if store.manifest.correction is None)
        return next(raws, None)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of their first runs."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    def runs_of(self, method: str) -> tuple[StudentRun, ...]:
        """Return the runs of one method."""
        return tuple(run for run in self.runs if run.method == method)
