"""`bench views`: views per second, draws included.

`cifar-weak` against a plain loop of slices, and `cifar-strong`, rendered by Pillow, on one core.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.jobs.bench.timing import Bar, Spread, interleave, ratio
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.devices import torch_threads
from logitbank.pipeline.views import CifarStrong, CifarWeak, check_views
from logitbank.pipeline.views.augmentations.cifar_weak import PermutationTable
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from logitbank.stores.errors import LogitbankError

BATCHED, PLAIN_LOOP, COLD = "batched", "plain_loop", "batched_first_view"
STRONG = "strong_one_core"
WANTED_VIEWS_PER_SECOND = {BATCHED: 200_000, STRONG: 4_000}


@dataclass(frozen=True)
class ViewSettings:
    """What to measure: `views` views of each of `samples` random images, `rounds` times.

    Each slice draws under its own seed, so that it makes the table of permutations that all views
    under one seed share: its cost is spread over `views` views. Strong views share nothing and take
    far longer, so a slice makes only `strong_views` of them in all.
    """

    samples: int
    views: int
    batch_size: int
    strong_views: int
    rounds: int
    threads: int


@dataclass(frozen=True)
class ViewsMeasured:
    """Views per second by way of making them, draws included.

    `batched` and `plain_loop` make `settings.views` views of each image; `batched_first_view` makes
    only one, which pays for the whole table of permutations. `strong_one_core` makes `cifar-strong`
    views in one thread, timed by its CPU seconds. `bars` are by the way that they judge.
    """

    settings: ViewSettings
    views_per_second: dict[str, Spread]
    ratio_to_plain_loop: Spread
    bars: dict[str, Bar]

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain objects."""
        return dataclasses.asdict(self)


def measure_views(
    settings: ViewSettings, progress: Callable[[int, int], None] = lambda done, total: None
) -> ViewsMeasured:
    """Measure, after checking that batched and plain views are equal.

    Raises:
        UsageError: there are more views than `cifar-weak` has.
        LogitbankError: the two ways don't give the same pixels.
    """
    check_views(CifarWeak(), settings.views)
    with torch_threads(settings.threads):
        work = ViewWork(settings)
        work.require_same_pixels()
        seeds = count(1)
        ways = {
            BATCHED: lambda: work.batched(next(seeds), settings.views),
            PLAIN_LOOP: lambda: work.plain(next(seeds), settings.views),
            COLD: lambda: work.batched(next(seeds), 1),
        }
        rounds = settings.rounds
        rates = interleave(
            ways, rounds, progress=lambda done, total: progress(done, total + rounds)
        )
        # CPU seconds, not wall-clock time: other work takes the core away, but not its rate.
        rates |= interleave(
            {STRONG: lambda: work.strong(next(seeds))},
            rounds,
            clock=time.thread_time,
            progress=lambda done, total: progress(rounds + done, rounds + total),
        )
    spreads = {name: Spread.of(values) for name, values in rates.items()}
    return ViewsMeasured(
        settings,
        spreads,
        ratio(rates[BATCHED], rates[PLAIN_LOOP]),
        {way: Bar.judge(spreads[way], wanted) for way, wanted in WANTED_VIEWS_PER_SECOND.items()},
    )


class ViewWork:
    """The same views made in two ways, from images that are padded beforehand."""

    def __init__(self, settings: ViewSettings) -> None:
        self._settings = settings
        self._augmentation = CifarWeak()
        rng = np.random.default_rng(0)
        size, pad = self._augmentation.size, self._augmentation.pad
        images = rng.integers(0, 256, (settings.samples, size, size, 3), np.uint8)
        targets = np.zeros(settings.samples, np.int32)
        dataset = MemoryDataset("random", "train", images, targets, ("0",), "random images")
        self._renderer = ViewRenderer(dataset, self._augmentation)
        # Without a pool, only the calling thread renders, on one core.
        self._strong = ViewRenderer(dataset, CifarStrong())
        self._padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        self._order = rng.permutation(settings.samples)

    def batched(self, seed: int, views: int) -> int:
        """Draw and render batches as the pipeline does; return the number of views."""
        for view in range(views):
            for samples in self._batches():
                self._renderer.draw(seed, view, samples)
        return views * self._settings.samples

    def plain(self, seed: int, views: int) -> int:
        """Draw in the same way, then slice one image after another; return the number of views."""
        table = PermutationTable(self._augmentation, seed, self._settings.samples)
        for view in range(views):
            for samples in self._batches():
                plain_views(self._padded, samples, table.draw(samples, view))
        return views * self._settings.samples

    def strong(self, seed: int) -> int:
        """Draw and render `strong_views` strong views, a batch at a time; return their number."""
        wanted, done, view = self._settings.strong_views, 0, 0
        while done < wanted:
            for samples in self._batches():
                chosen = samples[: wanted - done]
                if len(chosen):
                    self._strong.draw(seed, view, chosen)
                    done += len(chosen)
            view += 1
        return done

    def require_same_pixels(self) -> None:
        """Check that the first and last view of every image are equal, drawn without a table.

        Raises:
            LogitbankError: they differ; the sample and view are named.
        """
        for view in {0, self._settings.views - 1}:
            for samples in self._batches():
                sizes = np.full((len(samples), 2), self._augmentation.size)
                params = self._augmentation.draw(0, samples, view, sizes)
                expected = plain_views(self._padded, samples, params)
                pixels = self._renderer.draw(0, view, samples)[0].numpy()
                wrong = (pixels != expected).any(axis=(1, 2, 3))
                if wrong.any():
                    raise LogitbankError(
                        f"view {view} of sample {samples[wrong][0]} has other pixels than slicing "
                        "gives: the batched views are wrong, and nothing was timed"
                    )

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(self._order), self._settings.batch_size):
            yield self._order[start : start + self._settings.batch_size]


def plain_views(
    padded: NDArray[np.uint8], samples: NDArray[np.int64], params: NDArray[np.int16]
) -> NDArray[np.uint8]:
    """Crop and flip one padded image after another.

    Args:
        padded: (N, S + 2 * pad, S + 2 * pad, 3) uint8, pad 4.
        samples: (B,) indices.
        params: (B, 3) dy, dx, flip.

    Returns:
        (B, S, S, 3) uint8.
    """
    size = padded.shape[1] - 2 * CifarWeak.pad
    views = np.empty((len(samples), size, size, 3), np.uint8)
    drawn = zip(samples.tolist(), params.tolist(), strict=True)
    for row, (sample, (dy, dx, flip)) in enumerate(drawn):
        crop = padded[sample, dy : dy + size, dx : dx + size]
        views[row] = crop[:, ::-1] if flip else crop
    return views


def view_lines(measured: ViewsMeasured) -> list[str]:
    """Return a measurement as lines of text."""
    settings, rates, bars = measured.settings, measured.views_per_second, measured.bars
    return [
        f"bench views: cifar-weak on {settings.samples:,} images of 32 x 32, batches of "
        f"{settings.batch_size:,}, {settings.threads} threads, {settings.rounds} rounds",
        "views a second, draws included: median ± median deviation (four rounds in five)",
        f"  batched, {settings.views} views under one seed     {rates[BATCHED]:,.0f}",
        f"  the same in a plain loop of slices  {rates[PLAIN_LOOP]:,.0f}",
        f"  batched, the first view of a seed   {rates[COLD]:,.0f}",
        f"  batched / plain loop                {measured.ratio_to_plain_loop:.2f}",
        f"  wanted: batched at {bars[BATCHED].wanted:,} or more: {bars[BATCHED].verdict}",
        f"cifar-strong in Pillow, {settings.strong_views:,} views by one thread",
        f"  a second of a core                  {rates[STRONG]:,.0f}",
        f"  wanted: {bars[STRONG].wanted:,} or more: {bars[STRONG].verdict}",
    ]
