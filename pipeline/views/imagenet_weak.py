"""`imagenet-weak`: a random resized crop and a random flip."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from logitbank.pipeline.draws import Purpose, integers, uniform, words
from logitbank.pipeline.views.augmentation import (
    require_box,
    require_interpolation,
    require_whole,
    require_yes_or_no,
    resized,
)

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_MAX_SIZE = 4096
# Words of a view: area and aspect ratio of each attempt, then top, left and flip.
_TOP, _LEFT, _FLIP = 2 * _ATTEMPTS, 2 * _ATTEMPTS + 1, 2 * _ATTEMPTS + 2


@dataclass(frozen=True)
class ImagenetWeak:
    """Crop a random box, resize it to `size`, flip at random (left to right).

    The box follows torchvision.transforms.RandomResizedCrop: an area of 0.08 to 1 of the image,
    uniform, and an aspect ratio of 3/4 to 4/3, uniform in its logarithm, until one of ten attempts
    fits; else the largest central box of an allowed ratio. Cropping and resizing is Pillow's, as in
    torchvision's path for Pillow images.

    Raises:
        UsageError: a parameter out of range.
    """

    size: int = 224
    interpolation: str = "bilinear"
    flip: bool = True
    name: ClassVar[str] = "imagenet-weak"
    columns: ClassVar[tuple[str, ...]] = ("top", "left", "height", "width", "flip")
    dtype: ClassVar[Literal["int16", "int32"]] = "int32"
    count: ClassVar[None] = None

    def __post_init__(self) -> None:
        require_whole(self.size, "size of imagenet-weak", 1, _MAX_SIZE)
        require_interpolation(self.interpolation, "interpolation of imagenet-weak")
        require_yes_or_no(self.flip, "flip of imagenet-weak")

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int32]:
        """Draw box and flip of one view of each sample: (B, 5) int32."""
        random = words(seed, samples, view, Purpose.IMAGENET_WEAK, _FLIP + 1)
        sides = np.asarray(sizes, np.int64)
        box = _box_sides(random[:, :_TOP], sides)
        top = integers(random[:, _TOP], sides[:, 0] - box[:, 0] + 1)
        left = integers(random[:, _LEFT], sides[:, 1] - box[:, 1] + 1)
        is_central = box[:, 2].astype(bool)
        top = np.where(is_central, (sides[:, 0] - box[:, 0]) // 2, top)
        left = np.where(is_central, (sides[:, 1] - box[:, 1]) // 2, left)
        flip = integers(random[:, _FLIP], 2) * self.flip
        return np.stack([top, left, box[:, 0], box[:, 1], flip], axis=1).astype(np.int32)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Crop, resize and flip one image."""
        top, left, height, width, flip = map(int, params)
        require_box((top, left, height, width), image.shape[:2], self)
        # The crop comes first: Pillow's resize(box=...) would also read pixels around the box.
        crop = image[top : top + height, left : left + width]
        view = resized(crop, (self.size, self.size), self.interpolation)
        return np.asarray(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view)


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
    """Give height and width of the largest box of an allowed ratio: (B, 2)."""
    heights, widths = sides[:, 0], sides[:, 1]
    ratios = widths / heights
    central_heights = np.where(ratios < RATIO[0], np.rint(widths / RATIO[0]), heights)
    central_widths = np.where(ratios > RATIO[1], np.rint(heights * RATIO[1]), widths)
    return np.stack([central_heights, central_widths], axis=1).astype(np.int64)
