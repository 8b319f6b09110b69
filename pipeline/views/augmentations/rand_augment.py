"""RandAugment's operations with their magnitudes, as in the strong views of distillation.

The list, its order and its ranges are those of the code that MLKD, and SLD after it, are trained
with (first FixMatch's): operations are drawn with replacement and evenly, a magnitude evenly from
its operation's range, and RandAugment's m is ignored (Cubuk et al., "RandAugment", 2020, has one
magnitude for all). All of them are Pillow's, which fills with black and takes the nearest pixel.

A magnitude is stored as a whole number of its operation's unit. The units are binary fractions, for
the sake of exactness: Pillow blends in float32, where a factor of 14 binary places times a
difference of two bytes is exact, so that a compiler's fused multiplication changes no pixel; it
shears in whole numbers of 2**-16, so that a finer unit would have no effect. A step is a 64th of a
grey level at most for a factor, a thousandth of a degree, and 0.0034 of 224 pixels for a shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from logitbank.pipeline.views.augmentations import tables
from logitbank.pipeline.views.draws import integers
from logitbank.stores.errors import PixelError

# Words of one operation: which, and how much.
WORDS = 2
_FACTOR, _ANGLE, _FRACTION = 2**14, 2**10, 2**16


@dataclass(frozen=True)
class Operation:
    """An operation on a Pillow image.

    `low` to `high` are the magnitudes that are drawn, in whole units, of which `units` make 1.
    """

    name: str
    apply: Callable[[Image.Image, float], Image.Image]
    low: int = 0
    high: int = 0
    units: int = 1

    def __call__(self, image: Image.Image, magnitude: int) -> Image.Image:
        """Apply the operation; raise PixelError for a magnitude that is not drawn."""
        if not self.low <= magnitude <= self.high:
            raise PixelError(
                f"magnitude {magnitude} of {self.name} is outside what is drawn: {self.low} to "
                f"{self.high}, in units of 1/{self.units}"
            )
        return self.apply(image, magnitude / self.units)


def _enhanced(
    enhancer: Callable[[Image.Image], ImageEnhance._Enhance],
) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, factor: enhancer(image).enhance(factor)


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


# A factor of 0.05 to 0.95, an angle of -30 to 30 degrees, a shear or shift of -0.3 to 0.3: of each
# the whole units within.
_FACTORS = (820, 15564, _FACTOR)
_ANGLES = (-30720, 30720, _ANGLE)
_FRACTIONS = (-19660, 19660, _FRACTION)

# An operation's number is its place here, and part of the store format. Posterize keeps 4 to 7
# bits: the released code rounds a real number from 4 to 8 down, and 8 itself has no probability.
# Solarize's threshold is real there, but only the least whole number that reaches it has an effect:
# 1 to 256.
OPERATIONS = (
    Operation("auto_contrast", lambda image, _: tables.auto_contrast(image)),
    Operation("brightness", _enhanced(ImageEnhance.Brightness), *_FACTORS),
    Operation("color", _enhanced(ImageEnhance.Color), *_FACTORS),
    Operation("contrast", _enhanced(ImageEnhance.Contrast), *_FACTORS),
    Operation("equalize", lambda image, _: tables.equalize(image)),
    Operation("identity", lambda image, _: image),
    Operation("posterize", lambda image, bits: tables.posterize(image, int(bits)), 4, 7),
    Operation("rotate", lambda image, degrees: image.rotate(degrees), *_ANGLES),
    Operation("sharpness", _enhanced(ImageEnhance.Sharpness), *_FACTORS),
    Operation("shear_x", lambda image, by: _affine(image, (1, by, 0, 0, 1, 0)), *_FRACTIONS),
    Operation("shear_y", lambda image, by: _affine(image, (1, 0, 0, by, 1, 0)), *_FRACTIONS),
    Operation("solarize", lambda image, limit: tables.solarize(image, int(limit)), 1, 256),
    Operation(
        "translate_x",
        lambda image, by: _affine(image, (1, 0, by * image.width, 0, 1, 0)),
        *_FRACTIONS,
    ),
    Operation(
        "translate_y",
        lambda image, by: _affine(image, (1, 0, 0, 0, 1, by * image.height)),
        *_FRACTIONS,
    ),
)
_LOWS = np.array([operation.low for operation in OPERATIONS])
_HIGHS = np.array([operation.high for operation in OPERATIONS])


def draw_operations(random: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Draw operations, with replacement, and their magnitudes.

    Args:
        random: (B, 2 * n) words: of each operation which, and how much.

    Returns:
        (B, 2 * n): of each operation its number, and its magnitude in whole units.
    """
    numbers = integers(random[:, 0::WORDS], len(OPERATIONS))
    spans = _HIGHS[numbers] - _LOWS[numbers] + 1
    magnitudes = _LOWS[numbers] + integers(random[:, 1::WORDS], spans)
    return np.stack([numbers, magnitudes], axis=2).reshape(len(random), -1)


def apply_operations(image: Image.Image, drawn: NDArray[Any]) -> Image.Image:
    """Apply operations one after another.

    Args:
        image: RGB.
        drawn: (2 * n,): of each operation its number, and its magnitude in whole units.

    Raises:
        PixelError: there is no such operation, or the magnitude is not drawn.
    """
    for number, magnitude in drawn.reshape(-1, WORDS).tolist():
        if not 0 <= number < len(OPERATIONS):
            raise PixelError(
                f"operation {number} is not one of RandAugment's: 0 to {len(OPERATIONS) - 1}"
            )
        image = OPERATIONS[number](image, magnitude)
    return image
