"""Normalisation: from uint8 pixels to what a network sees. It belongs to the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from logitbank.stores.errors import UsageError

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the red, green and blue channel, of inputs in [0, 1].

    Raises:
        UsageError: there are not three finite numbers of each, or a deviation is not positive.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise UsageError(
                    f"a normalisation's {name} is three finite numbers, not {list(values)}"
                )
        if min(self.std) <= 0:
            raise UsageError(f"a normalisation's std is positive, not {list(self.std)}")

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Normalisation:
        """Return one from any sequences of three numbers, as in libraries and checkpoints."""
        return cls(tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]


CIFAR = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
"""CIFAR-100's, as in the distillation literature (mdistiller)."""

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's, as in torchvision."""

HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Inputs in [-1, 1]: where nothing better is known."""


def default_normalisation(dataset: ImageDataset) -> Normalisation:
    """Return a dataset's default: CIFAR's for 32 × 32, ImageNet's for folders, else 0.5 / 0.5."""
    images = dataset.images
    if images is not None:
        return CIFAR if tuple(images.shape[1:3]) == (32, 32) else HALF
    return IMAGENET if dataset.name in ("imagefolder", "imagenet") else HALF


def normalise(pixels: torch.Tensor, normalisation: Normalisation) -> torch.Tensor:
    """Compute (x / 255 - mean) / std, each operation rounded to float32.

    Args:
        pixels: (B, H, W, 3) uint8, on any device.
        normalisation: the model's.

    Returns:
        (B, 3, H, W) float32, contiguous, on the pixels' device. The same bits on every device.
    """
    full, mean, std = _constants(normalisation, pixels.device)
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32).contiguous()
    return scaled.div_(full).sub_(mean).div_(std)


@lru_cache(maxsize=16)
def _constants(normalisation: Normalisation, device: torch.device) -> tuple[torch.Tensor, ...]:
    # Tensors on the device, also for 255: CUDA turns a division by a Python number into a
    # multiplication by its reciprocal, which rounds differently.
    with torch.inference_mode(False):
        return (
            torch.tensor(255.0, device=device),
            torch.tensor(normalisation.mean, dtype=torch.float32, device=device).view(3, 1, 1),
            torch.tensor(normalisation.std, dtype=torch.float32, device=device).view(3, 1, 1),
        )
