"""Operations that look every byte of an image up in a table: Pillow's own, without its overhead.

Pillow makes and checks its tables one number at a time in Python, which costs several times the
look-up of a small image; here they are arrays. The values are those of PIL.ImageOps, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LEVELS = np.arange(256)
_CHANNELS = np.arange(3)


def posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keep the highest bits, 1 to 8, of each byte, as PIL.ImageOps.posterize."""
    return Image.fromarray(np.asarray(image) & np.uint8(256 - (1 << (8 - bits))))


def solarize(image: Image.Image, threshold: int) -> Image.Image:
    """Invert the bytes from a threshold on, as PIL.ImageOps.solarize."""
    table = np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS).astype(np.uint8)
    return Image.fromarray(table[np.asarray(image)])


def auto_contrast(image: Image.Image) -> Image.Image:
    """Stretch each channel to 0 to 255, as PIL.ImageOps.autocontrast."""
    lowest, highest = np.array(image.getextrema()).T
    is_flat = highest <= lowest
    # In this order of operations: another one rounds differently.
    scales = 255.0 / np.where(is_flat, 1, highest - lowest)
    stretched = (_LEVELS[:, None] * scales + -lowest * scales).astype(np.int64)
    return _looked_up(image, np.where(is_flat, _LEVELS[:, None], stretched))


def equalize(image: Image.Image) -> Image.Image:
    """Make each channel's histogram as even as it can be, as PIL.ImageOps.equalize."""
    counts = np.array(image.histogram()).reshape(3, 256).T
    below = counts.cumsum(axis=0) - counts
    last = 255 - (counts[::-1] > 0).argmax(axis=0)
    # The pixels below the highest level; with a single level there are none, and no step.
    steps = below[last, _CHANNELS] // 255
    is_kept = steps == 0
    even = (steps // 2 + below) // np.where(is_kept, 1, steps)
    return _looked_up(image, np.where(is_kept, _LEVELS[:, None], even))


def _looked_up(image: Image.Image, tables: NDArray[np.int64]) -> Image.Image:
    """Look each channel up in its column of (256, 3), cut off at 0 and 255."""
    cut = tables.clip(0, 255).astype(np.uint8)
    return Image.fromarray(cut[np.asarray(image), _CHANNELS])
