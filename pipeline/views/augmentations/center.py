"""`center`: resize the shorter side, crop the middle; what networks are evaluated on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.views.augmentation import (
    MAX_SIZE,
    require_box,
    require_interpolation,
    require_whole,
    resized,
)
from logitbank.stores.errors import PixelError, UsageError

_AUTO = "auto"


@dataclass(frozen=True)
class Center:
    """Resize the shorter side to `resize`, then crop `size` from the middle.

    `resize` is a number of pixels, or `auto`: images that are size x size already stay as they are,
    the shorter side of all others becomes size / 0.875, rounded (224 gives 256). Sides and offsets
    are rounded as by torchvision.transforms.Resize and CenterCrop, the resizing is Pillow's. There
    is one view, and nothing is random.

    Raises:
        UsageError: a parameter out of range, or a `resize` below `size`.
    """

    size: int = 224
    resize: int | str = _AUTO
    interpolation: str = "bilinear"
    name: ClassVar[str] = "center"
    columns: ClassVar[tuple[str, ...]] = ("resized_height", "resized_width", "top", "left")
    dtype: ClassVar[Literal["int16", "int32"]] = "int32"
    count: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_whole(self.size, "size of center", 1, MAX_SIZE)
        require_interpolation(self.interpolation, "interpolation of center")
        if self.resize == _AUTO:
            return
        if isinstance(self.resize, str):
            raise UsageError(f"resize of center is {self.resize!r}: expected pixels or 'auto'")
        require_whole(self.resize, "resize of center", self.size, 2 * MAX_SIZE)

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int32]:
        """Compute the sides after resizing and the crop's corner of each image: (B, 4) int32.

        The seed plays no part. Raises UsageError for any view but the first.
        """
        if view != 0:
            raise UsageError(f"view {view} of center: it has one view, number 0")
        sides = np.asarray(sizes, np.int64)
        is_ready = (sides == self.size).all(axis=1) & (self.resize == _AUTO)
        after = np.where(is_ready[:, None], sides, _resized_sides(sides, self._shorter_side))
        # torchvision rounds half to even here, as Python's round does.
        corner = np.rint((after - self.size) / 2).astype(np.int64)
        return np.concatenate([after, corner], axis=1).astype(np.int32)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Resize and crop one image."""
        height, width, top, left = map(int, params)
        if height < 1 or width < 1:
            raise PixelError(f"center: an image can't be resized to {height} x {width}")
        require_box((top, left, self.size, self.size), (height, width), self)
        if image.shape[:2] != (height, width):
            image = np.asarray(resized(image, (height, width), self.interpolation))
        return np.ascontiguousarray(image[top : top + self.size, left : left + self.size])

    @property
    def _shorter_side(self) -> int:
        return round(self.size / 0.875) if isinstance(self.resize, str) else self.resize


def _resized_sides(sides: NDArray[np.int64], shorter: int) -> NDArray[np.int64]:
    """Return (B, 2) sides whose shorter one is `shorter`; the longer one is rounded down."""
    short, long = sides.min(axis=1), sides.max(axis=1)
    longer = shorter * long // short
    is_portrait = sides[:, 0] >= sides[:, 1]
    heights = np.where(is_portrait, longer, shorter)
    widths = np.where(is_portrait, shorter, longer)
    return np.stack([heights, widths], axis=1)
