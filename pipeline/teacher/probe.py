"""The probe: a teacher's logits of a store's first images, which reveal changed code.

The weights' digest says nothing about the code that runs them. A store keeps the logits of a few of
its own views, and every process that is about to compute a unit of it, here, in another part or on
a worker, must reproduce them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.views import Augmentation, ViewRenderer
from logitbank.stores.errors import StoreError
from logitbank.stores.manifest import Probe

IMAGES = 8
"""Samples of a probe, at most."""

VALUES = 4096
"""Logits of a probe, at most, for networks of many classes: it lies in the manifest."""

TOLERANCE = 5e-4
"""The difference allowed, as a share of a row's range.

Other batch sizes, memory formats and float64 change float32 logits of fifteen networks by 7e-7 at
most; a scale of 1.01 by 5e-3 at least (docs/decisions.md).
"""


def probe_pixels(dataset: ImageDataset, augmentation: Augmentation, seed: int) -> torch.Tensor:
    """Render view 0 of the first 8 samples: (8, S, S, 3) uint8, fewer of a smaller dataset.

    Raises:
        DatasetError: an image can't be read.
    """
    samples = np.arange(min(IMAGES, len(dataset)))
    return ViewRenderer(dataset, augmentation).draw(seed, 0, samples)[0]


def teacher_probe(teacher: LoadedModel, pixels: torch.Tensor, device: str) -> Probe:
    """Return a teacher's probe of a store, in plain float32 and one small batch.

    Args:
        teacher: the network.
        pixels: from `probe_pixels`; with many classes only the first of them are used.
        device: where to compute.

    Raises:
        LogitbankError: the teacher does not return a row of logits for each image.
    """
    images = max(1, min(IMAGES, VALUES // teacher.classes))
    logits = forward_logits(teacher, pixels[:images], batch_size=IMAGES, device=device)
    return Probe(tuple(tuple(float(f"{value:.6g}") for value in row) for row in logits.tolist()))


def require_probe(found: Probe, recorded: Probe, who: str, where: str) -> None:
    """Check that a teacher has the probe of the one that began a store.

    Args:
        found: its probe.
        recorded: the store's.
        who: the teacher's spec.
        where: the store.

    Raises:
        StoreError: it does not; the largest difference is named with both figures.
    """
    differs = probe_difference(found, recorded)
    if differs is not None:
        raise StoreError(
            f"{where} was begun by a teacher with other logits than {who} has now: "
            f"{differs}; the weights are the same, so its code, or a library that it computes "
            "with, changed: restore it, or name another --out"
        )


def probe_difference(found: Probe, recorded: Probe) -> str | None:
    """Describe the largest difference of two probes, None where they agree.

    >>> probe_difference(Probe(((1.0, 3.0),)), Probe(((1.0, 4.0),)))
    'the logit of class 1 for sample 0 was 4, is now 3 (33% of the range of the row)'
    """
    now, then = np.array(found.logits), np.array(recorded.logits)
    if now.shape != then.shape:
        return f"it gave {then.shape} logits for the first samples, gives {now.shape} now"
    worst = row_differences(now, then)
    row = int(np.argmax(worst))
    # A NaN is a difference as well.
    if worst[row] <= TOLERANCE:
        return None
    place = int(np.nanargmax(np.abs(now[row] - then[row]))) if np.isfinite(worst[row]) else 0
    return (
        f"the logit of class {place} for sample {row} was {then[row, place]:g}, is now "
        f"{now[row, place]:g} ({100 * worst[row]:.2g}% of the range of the row)"
    )


def row_differences(
    found: NDArray[np.floating], expected: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the largest difference in each row, as a share of the row's range in `expected`.

    Args:
        found: (B, C).
        expected: (B, C).

    Returns:
        (B,); infinite where a row without any range differs, or a value is not finite.
    """
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    span = np.ptp(expected, axis=1)
    worst = np.abs(found - expected).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(worst == 0, 0.0, worst / span)
    return np.where(np.isfinite(share), share, np.inf)
