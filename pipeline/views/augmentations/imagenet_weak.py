"""`imagenet-weak`: a random resized crop and a random flip."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from logitbank.pipeline.views.augmentation import (
    MAX_SIZE,
    require_interpolation,
    require_whole,
    require_yes_or_no,
)
from logitbank.pipeline.views.augmentations.crops import BOX_WORDS, draw_boxes, resized_crop
from logitbank.pipeline.views.draws import Stream, integers, words


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
        require_whole(self.size, "size of imagenet-weak", 1, MAX_SIZE)
        require_interpolation(self.interpolation, "interpolation of imagenet-weak")
        require_yes_or_no(self.flip, "flip of imagenet-weak")

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int32]:
        """Draw box and flip of one view of each sample: (B, 5) int32."""
        random = words(seed, samples, view, Stream.IMAGENET_WEAK, BOX_WORDS + 1)
        boxes = draw_boxes(random[:, :BOX_WORDS], np.asarray(sizes, np.int64))
        flip = integers(random[:, BOX_WORDS:], 2) * self.flip
        return np.concatenate([boxes, flip], axis=1).astype(np.int32)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Crop, resize and flip one image."""
        top, left, height, width, flip = map(int, params)
        view = resized_crop(image, (top, left, height, width), self.interpolation, self)
        return np.asarray(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view)
