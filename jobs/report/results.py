"""What a report is made of: plain results, whoever measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.manifest import Manifest

TEMPERATURE = 4.0
"""That of Hinton's distillation on CIFAR, at which distributions are drawn by default."""


@dataclass(frozen=True)
class StudentRun:
    """A finished run: top-1 in percent of its best epoch and of its last one.

    `method` names what the student learned from; runs of one method differ in their seed alone.
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
        """V x N, the rows of logits."""
        return self.manifest.views * self.manifest.dataset.samples

    @property
    def total_bytes(self) -> int:
        """All bytes of the store's files."""
        return sum(self.array_bytes.values()) + self.other_bytes


@dataclass(frozen=True, eq=False)
class Mistake:
    """A view on which the teacher was wrong, before and after correction.

    `pixels` (S, S, 3) uint8 is what it saw; `logits` holds (C,) float32 by store name, the raw
    store's first; `rank` is the label's place in the teacher's own order, 2 or more.
    """

    sample: int
    view: int
    pixels: NDArray[np.uint8]
    label: int
    rank: int
    logits: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Throughput:
    """Images a second of training, each way (R,) times, interleaved round by round.

    The first way is the one that others are compared with; a way that does the same once more shows
    the noise. `conditions` says in words what was timed.
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
        """Return a way's rate over the reference's of the same round, for each round."""
        pairs = zip(self.ways[way], self.ways[self.reference], strict=True)
        return tuple(rate / reference for rate, reference in pairs)


@dataclass(frozen=True)
class TeacherCost:
    """What the teacher's word costs: forward passes, and seconds where they were measured.

    `samples` N and `views` V were cached once, and `students` learned from the cache for `epochs` E
    each. `cache_seconds` is what making the stores took, None where it was not timed in one go.
    """

    samples: int
    views: int
    epochs: int
    students: int
    cache_seconds: float | None = None


@dataclass(frozen=True)
class Report:
    """All that a page tells; what was not measured is empty or None, and has no section.

    `comparisons` are pairs of methods, told as first minus second. `test_samples` are those that
    the accuracies are of, where that is known. `classes` are named by what shows `mistakes`.
    `temperature` is that at which distributions are drawn. `setting` holds facts of the set-up by
    name, `commands` is what made the results, `stages` the seconds that each stage took.
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
        """The first store of a teacher's own logits, None where all are corrected."""
        raws = (store for store in self.stores if store.manifest.correction is None)
        return next(raws, None)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of their first runs."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    def runs_of(self, method: str) -> tuple[StudentRun, ...]:
        """Return the runs of one method."""
        return tuple(run for run in self.runs if run.method == method)
