"""How fast views are made: what the bench of views measures."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets.memory import MemoryDataset
from logitbank.pipeline.views.cifar_weak import CifarWeak
from logitbank.pipeline.views.renderer import ViewRenderer, pixel_crc


@dataclass(frozen=True)
class ViewRates:
    """Views a second, over all rounds; each round makes one view of every image.

    `drawn_and_rendered` includes all draws, the permutations of the first round too; `plain_loop`
    renders the same views from given parameters by slicing one image after another; `checked` is
    the checksum alone. `prepare_seconds` is what padding the images took, once.
    """

    drawn_and_rendered: float
    plain_loop: float
    checked: float
    prepare_seconds: float


def measure_view_rates(
    samples: int = 50_000, *, rounds: int = 8, batch: int = 4096, seed: int = 0
) -> ViewRates:
    """Measure `cifar-weak` on random images of 32 x 32, the ways interleaved round by round.

    Args:
        samples: N images.
        rounds: how many views of each.
        batch: views at a time, in a shuffled order.
        seed: of the images, the order and the draws.
    """
    rng = np.random.default_rng(seed)
    augmentation = CifarWeak()
    images = rng.integers(0, 256, (samples, 32, 32, 3), np.uint8)
    dataset = MemoryDataset("bench", "train", images, np.zeros(samples, np.int32), ("0",), "bench")
    began = time.perf_counter()
    renderer = ViewRenderer(dataset, augmentation)
    prepare_seconds = time.perf_counter() - began
    pad = augmentation.pad
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    seconds = np.zeros(3)
    for view in range(rounds):
        order = rng.permutation(samples)
        for start in range(0, samples, batch):
            part = order[start : start + batch]
            moments = [time.perf_counter()]
            pixels, params = renderer.draw(seed, view, part)
            moments.append(time.perf_counter())
            plain_crops(padded, part, params)
            moments.append(time.perf_counter())
            pixel_crc(pixels)
            moments.append(time.perf_counter())
            seconds += np.diff(moments)
    drawn_and_rendered, plain_loop, checked = (samples * rounds / seconds).tolist()
    return ViewRates(drawn_and_rendered, plain_loop, checked, prepare_seconds)


def plain_crops(
    padded: NDArray[np.uint8], samples: NDArray[np.int64], params: NDArray[np.int16]
) -> NDArray[np.uint8]:
    """Crop and flip one padded image after another: what the batched way is measured against.

    Args:
        padded: (N, 40, 40, 3) uint8.
        samples: (B,) indices.
        params: (B, 3) dy, dx, flip.

    Returns:
        (B, 32, 32, 3) uint8.
    """
    views = np.empty((len(samples), 32, 32, 3), np.uint8)
    rows = zip(samples.tolist(), params.tolist(), strict=True)
    for row, (sample, (dy, dx, flip)) in enumerate(rows):
        crop = padded[sample, dy : dy + 32, dx : dx + 32]
        views[row] = crop[:, ::-1] if flip else crop
    return views
