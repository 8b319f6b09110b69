"""`cifar-strong`: crop and flip at random, then RandAugment's operations and Cutout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from logitbank.pipeline.views.augmentation import (
    MAX_PAD,
    MAX_SIZE,
    require_sides,
    require_whole,
    require_yes_or_no,
)
from logitbank.pipeline.views.augmentations.crops import padded_crop
from logitbank.pipeline.views.augmentations.distortion import Distortion
from logitbank.pipeline.views.draws import Stream, integers, words
from logitbank.stores.errors import PixelError

# Words of a crop and a flip, before those of the distortion.
_CROP_WORDS = 3


@dataclass(frozen=True)
class CifarStrong:
    """The strong view of MLKD and SLD: crop and flip as `cifar-weak`, then distort.

    A square image is padded by `pad` zeros, cropped to `size` and mirrored, all drawn independently
    of `cifar-weak`; then come `operations` of RandAugment's operations, drawn with replacement, and
    Cutout if `cutout` is set. Views are drawn with replacement: their number is unlimited.

    Raises:
        UsageError: a parameter out of range.
    """

    size: int = 32
    pad: int = 4
    flip: bool = True
    operations: int = 2
    cutout: bool = True
    name: ClassVar[str] = "cifar-strong"
    dtype: ClassVar[Literal["int16", "int32"]] = "int16"
    count: ClassVar[None] = None

    def __post_init__(self) -> None:
        require_whole(self.size, "size of cifar-strong", 1, MAX_SIZE)
        require_whole(self.pad, "pad of cifar-strong", 0, MAX_PAD)
        require_yes_or_no(self.flip, "flip of cifar-strong")
        self._distortion.require_valid(self.name)

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """dy, dx, flip; operation_1, magnitude_1, ...; cutout_top, _left, _height, _width."""
        return ("dy", "dx", "flip", *self._distortion.columns)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int16]:
        """Draw one view of each sample: (B, P) int16.

        Raises:
            DatasetError: images that are not square and of the augmentation's size.
        """
        require_sides(sizes, self)
        count = _CROP_WORDS + self._distortion.words
        random = words(seed, samples, view, Stream.CIFAR_STRONG, count)
        bounds = [2 * self.pad + 1, 2 * self.pad + 1, 1 + self.flip]
        crop = integers(random[:, :_CROP_WORDS], bounds)
        distorted = self._distortion.draw(random[:, _CROP_WORDS:], self.size)
        return np.concatenate([crop, distorted], axis=1).astype(np.int16)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Pad, crop, flip and distort one image."""
        if image.shape[:2] != (self.size, self.size):
            require_sides([image.shape[:2]], self)
        dy, dx, flip = params[:_CROP_WORDS].tolist()
        if not 0 <= flip <= int(self.flip):
            raise PixelError(f"{self.name}: flip {flip} is outside what is drawn")
        crop = padded_crop(image, self.pad, (dy, dx), self)
        view = Image.fromarray(crop[:, ::-1] if flip else crop)
        return self._distortion.render(view, params[_CROP_WORDS:], self)

    @property
    def _distortion(self) -> Distortion:
        return Distortion(self.operations, self.cutout)
