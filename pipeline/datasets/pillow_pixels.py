"""Pixels of Pillow images as 8-bit RGB, where the conversion is unambiguous."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.stores.errors import DatasetError


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image to (H, W, 3) uint8, as torchvision's loader does; alpha is dropped.

    Raises:
        DatasetError: 16-bit, 32-bit or float grey, which Pillow would clip at 255 rather than
            scale; the message is to follow the image's name.
    """
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        kind = "floats" if mode == "F" else "more than 8 bits"
        raise DatasetError(
            f"its pixels are of {kind} (Pillow's mode {mode}), and what is white isn't known: "
            "convert it to 8 bits first, as "
            "PIL.Image.fromarray((numpy.asarray(image) * (255.0 / WHITE)).astype('uint8'))"
        )
    return np.asarray(image.convert("RGB"))
