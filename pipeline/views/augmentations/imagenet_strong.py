"""`imagenet-strong`: a random resized crop and flip, then RandAugment's operations and Cutout."""

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
from logitbank.pipeline.views.augmentations.distortion import Distortion
from logitbank.pipeline.views.draws import Stream, integers, words
from logitbank.stores.errors import PixelError

_CROP_COLUMNS = ("top", "left", "height", "width", "flip")
# Words of a box and a flip, before those of the distortion.
_CROP_WORDS = BOX_WORDS + 1


@dataclass(frozen=True)
class ImagenetStrong:
    """The strong view of SLD and MLKD on ImageNet: crop and flip as `imagenet-weak`, then distort.

    A box is drawn, cropped, resized to `size` and mirrored, all drawn independently of
    `imagenet-weak`; then come `operations` of RandAugment's operations, drawn with replacement, and
    Cutout if `cutout` is set.

    Raises:
        UsageError: a parameter out of range.
    """

    size: int = 224
    interpolation: str = "bilinear"
    flip: bool = True
    operations: int = 2
    cutout: bool = True
    name: ClassVar[str] = "imagenet-strong"
    dtype: ClassVar[Literal["int16", "int32"]] = "int32"
    count: ClassVar[None] = None

    def __post_init__(self) -> None:
        require_whole(self.size, "size of imagenet-strong", 1, MAX_SIZE)
        require_interpolation(self.interpolation, "interpolation of imagenet-strong")
        require_yes_or_no(self.flip, "flip of imagenet-strong")
        self._distortion.require_valid(self.name)

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The box and flip; operation_1, magnitude_1, ...; cutout_top, _left, _height, _width."""
        return (*_CROP_COLUMNS, *self._distortion.columns)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int32]:
        """Draw one view of each sample: (B, P) int32."""
        count = _CROP_WORDS + self._distortion.words
        random = words(seed, samples, view, Stream.IMAGENET_STRONG, count)
        boxes = draw_boxes(random[:, :BOX_WORDS], np.asarray(sizes, np.int64))
        flip = integers(random[:, BOX_WORDS:_CROP_WORDS], 1 + self.flip)
        distorted = self._distortion.draw(random[:, _CROP_WORDS:], self.size)
        return np.concatenate([boxes, flip, distorted], axis=1).astype(np.int32)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Crop, resize, flip and distort one image."""
        top, left, height, width, flip = params[: len(_CROP_COLUMNS)].tolist()
        if not 0 <= flip <= int(self.flip):
            raise PixelError(f"{self.name}: flip {flip} is outside what is drawn")
        view = resized_crop(image, (top, left, height, width), self.interpolation, self)
        if flip:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self._distortion.render(view, params[len(_CROP_COLUMNS) :], self)

    @property
    def _distortion(self) -> Distortion:
        return Distortion(self.operations, self.cutout)
