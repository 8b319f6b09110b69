"""Random crops that weak and strong views share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.pipeline.views.augmentation import ViewKind, require_box, resized
from logitbank.pipeline.views.draws import integers, uniform

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Words of a box: area and aspect ratio of each attempt, then top and left.
BOX_WORDS = 2 * _ATTEMPTS + 2


def padded_crop(
    image: NDArray[np.uint8], pad: int, corner: tuple[int, int], augmentation: ViewKind
) -> NDArray[np.uint8]:
    """Pad an image by zeros and crop the augmentation's size at a corner of the padded image.

    Raises:
        PixelError: the crop is not in the padded image.
    """
    top, left = corner
    height, width = image.shape[:2]
    size = augmentation.size
    require_box((top, left, size, size), (height + 2 * pad, width + 2 * pad), augmentation)
    padded = np.zeros((height + 2 * pad, width + 2 * pad, 3), np.uint8)
    padded[pad : pad + height, pad : pad + width] = image
    return padded[top : top + size, left : left + size]


def resized_crop(
    image: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    interpolation: str,
    augmentation: ViewKind,
) -> Image.Image:
    """Crop a box (top, left, height, width) and resize it to the augmentation's size.

    Raises:
        PixelError: the box is not in the image.
    """
    require_box(box, image.shape[:2], augmentation)
    top, left, height, width = box
    # The crop comes first: Pillow's resize(box=...) would also read pixels around the box.
    crop = image[top : top + height, left : left + width]
    return resized(crop, (augmentation.size, augmentation.size), interpolation)


def draw_boxes(random: NDArray[np.uint32], sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw boxes as torchvision.transforms.RandomResizedCrop does.

    A box has an area of 0.08 to 1 of the image, uniform, and an aspect ratio of 3/4 to 4/3, uniform
    in its logarithm, and is the first of ten attempts that fits; else it is the largest central one
    of an allowed ratio.

    Args:
        random: (B, BOX_WORDS) words.
        sides: (B, 2) heights and widths of the images.

    Returns:
        (B, 4): top, left, height, width.
    """
    box = _box_sides(random[:, : 2 * _ATTEMPTS], sides)
    top = integers(random[:, 2 * _ATTEMPTS], sides[:, 0] - box[:, 0] + 1)
    left = integers(random[:, 2 * _ATTEMPTS + 1], sides[:, 1] - box[:, 1] + 1)
    is_central = box[:, 2].astype(bool)
    top = np.where(is_central, (sides[:, 0] - box[:, 0]) // 2, top)
    left = np.where(is_central, (sides[:, 1] - box[:, 1]) // 2, left)
    return np.stack([top, left, box[:, 0], box[:, 1]], axis=1)


def _box_sides(random: NDArray[np.uint32], sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw the height and width of each box: (B, 3), the third 1 where it is the central one."""
    area = sides.prod(axis=1, keepdims=True)
    low, high = np.log(RATIO)
    areas = area * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniform(random[:, 0::2]))
    ratios = np.exp(low + (high - low) * uniform(random[:, 1::2]))
    heights = np.rint(np.sqrt(areas / ratios)).astype(np.int64)
    widths = np.rint(np.sqrt(areas * ratios)).astype(np.int64)
    fits = (heights > 0) & (heights <= sides[:, :1]) & (widths > 0) & (widths <= sides[:, 1:])
    first = fits.argmax(axis=1)
    rows = np.arange(len(sides))
    attempted = np.stack([heights[rows, first], widths[rows, first]], axis=1)
    none_fits = ~fits[rows, first]
    chosen = np.where(none_fits[:, None], _central_sides(sides), attempted)
    return np.column_stack([chosen, none_fits])


def _central_sides(sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return height and width of the largest box of an allowed ratio: (B, 2)."""
    heights, widths = sides[:, 0], sides[:, 1]
    ratios = widths / heights
    central_heights = np.where(ratios < RATIO[0], np.rint(widths / RATIO[0]), heights)
    central_widths = np.where(ratios > RATIO[1], np.rint(heights * RATIO[1]), widths)
    return np.stack([central_heights, central_widths], axis=1).astype(np.int64)
