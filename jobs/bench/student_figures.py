"""The results of `bench student`, and how they are reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logitbank.jobs.bench.timing import Bar, Spread, ratio

HARD, HARD_AGAIN = "hard_labels", "hard_labels_again"
CONSTANT, CACHED, ONLINE = "constant_logits", "cached", "teacher_in_the_loop"
WAYS = {
    HARD: "hard labels",
    CONSTANT: "a constant tensor of logits",
    CACHED: "cached soft labels",
    HARD_AGAIN: "hard labels again",
    ONLINE: "the teacher in the loop",
}
BARS = {HARD: 0.97, CONSTANT: 0.99}
GPU_RATES = (10_000, 50_000)


@dataclass(frozen=True)
class StudentSettings:
    """What to train: `rounds` slices of `steps` steps in each way, after one that is not timed."""

    student: str
    teacher: str
    classes: int
    samples: int
    batch_size: int
    steps: int
    rounds: int
    threads: int
    device: str

    @property
    def images(self) -> int:
        """The number of images that each way trains on, each once."""
        return self.batch_size * self.steps * (self.rounds + 1)


@dataclass(frozen=True)
class Work:
    """What a way did in all, its untimed slice included; `loss` is the mean loss."""

    images: int
    steps: int
    loss: float


@dataclass(frozen=True)
class SlabCost:
    """The costs that only a cache has.

    `batch_microseconds` is spent per batch: gather and conversion to float32. Once per epoch a view
    is read into the slab, `view_milliseconds` (by a background thread, but for the first one), and
    its pixels are checked, `check_milliseconds`; rendering it takes place without a cache as well.
    """

    batch_microseconds: Spread
    view_milliseconds: Spread
    check_milliseconds: Spread

    def batch_percent(self, images_per_second: float, batch_size: int) -> float:
        """Return the percentage of a batch's time that the slab takes at a training rate."""
        return 1e-4 * self.batch_microseconds.median * images_per_second / batch_size

    def rate_at_percent(self, percent: float, batch_size: int) -> float:
        """Return the images per second at which the slab takes this percentage of a batch."""
        return percent * batch_size / (1e-4 * self.batch_microseconds.median)

    def epoch_percent(self, images_per_second: float, samples: int) -> float:
        """Return the percentage of an epoch's time spent on reading and checking its view."""
        seconds = 1e-3 * (self.view_milliseconds.median + self.check_milliseconds.median)
        return 100 * seconds * images_per_second / samples


@dataclass(frozen=True)
class StudentMeasured:
    """Images per second by way (see `WAYS`), and their ratios.

    Ratios are taken round by round. That of the hard labels measured again is the yardstick: the
    same work twice, so its distance from 1 is an uncertainty of every ratio.
    """

    settings: StudentSettings
    images_per_second: dict[str, Spread]
    ratio_to_hard_labels: dict[str, Spread]
    ratio_to_constant_logits: dict[str, Spread]
    bars: dict[str, Bar]
    slab: SlabCost
    work: dict[str, Work]

    @classmethod
    def of(
        cls,
        settings: StudentSettings,
        rates: Mapping[str, Sequence[float]],
        slab: SlabCost,
        work: dict[str, Work],
    ) -> StudentMeasured:
        """Compare (R,) rates of each way."""
        to_hard = {name: ratio(rates[name], rates[HARD]) for name in WAYS}
        to_constant = {name: ratio(rates[name], rates[CONSTANT]) for name in WAYS}
        yardstick = abs(to_hard[HARD_AGAIN].median - 1)
        bars = {
            HARD: Bar.judge(to_hard[CACHED], BARS[HARD], yardstick=yardstick),
            CONSTANT: Bar.judge(to_constant[CACHED], BARS[CONSTANT], yardstick=yardstick),
        }
        spreads = {name: Spread.of(rates[name]) for name in WAYS}
        return cls(settings, spreads, to_hard, to_constant, bars, slab, work)

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain objects, with the slab's share of faster runs."""
        shares = {
            str(rate): self.slab.batch_percent(rate, self.settings.batch_size) for rate in GPU_RATES
        }
        return {**dataclasses.asdict(self), "slab_percent_at_images_per_second": shares}


def student_lines(measured: StudentMeasured) -> list[str]:
    """Return a measurement as lines of text."""
    settings = measured.settings
    return [
        f"bench student: {settings.student} at 32 x 32, {settings.classes} classes, batches of "
        f"{settings.batch_size}, {settings.device}, threads: {settings.threads}; teacher "
        f"{settings.teacher}; {settings.rounds} rounds of {settings.steps} steps a way",
        "images a second: median ± median deviation (four rounds in five); ratios by round",
        *(_way_line(measured, name) for name in WAYS),
        *(_bar_line(measured, name) for name in BARS),
        *_slab_lines(measured),
    ]


def _bar_line(measured: StudentMeasured, name: str) -> str:
    bar = measured.bars[name]
    to = measured.ratio_to_hard_labels if name == HARD else measured.ratio_to_constant_logits
    line = f"  wanted: cached at {bar.wanted} or more of {WAYS[name]}: {bar.verdict}"
    if bar.doubt is None:
        return f"{line} (one round proves nothing)"
    return f"{line} ({to[CACHED].median:.3f}, give or take {bar.doubt:.3f})"


def _way_line(measured: StudentMeasured, name: str) -> str:
    line = f"  {WAYS[name]:<28}{f'{measured.images_per_second[name]:,.1f}':<32}"
    if name != HARD:
        line += f"{measured.ratio_to_hard_labels[name]:.3f} of hard labels"
    if name == CACHED:
        line += f"; {measured.ratio_to_constant_logits[name]:.3f} of the constant"
    return line.rstrip()


def _slab_lines(measured: StudentMeasured) -> list[str]:
    slab, settings = measured.slab, measured.settings
    batch = settings.batch_size
    own = measured.images_per_second[CACHED].median
    shares = " and ".join(
        f"{slab.batch_percent(rate, batch):.1f}% at {rate:,} images/s" for rate in GPU_RATES
    )
    return [
        f"the slab alone: {slab.batch_microseconds:.1f} µs a batch, "
        f"{slab.batch_percent(own, batch):.3f}% of a batch's time here",
        f"once an epoch: {slab.view_milliseconds:.1f} ms to read a view (by a thread), "
        f"{slab.check_milliseconds:.1f} ms to check its pixels: "
        f"{slab.epoch_percent(own, settings.samples):.3f}% of an epoch of {settings.samples:,}",
        f"if nothing overlaps, this slab would take {shares}, and 3% at "
        f"{slab.rate_at_percent(3, batch):,.0f} images/s: a GPU whose student trains faster than "
        "that has to show that its own gather is quicker, or overlaps",
    ]
