"""What makes a view strong: RandAugment's operations, then Cutout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.pipeline.views.augmentation import (
    ViewKind,
    require_whole,
    require_yes_or_no,
)
from logitbank.pipeline.views.augmentations import cutout, rand_augment
from logitbank.stores.errors import PixelError

_MAX_OPERATIONS = 16


@dataclass(frozen=True)
class Distortion:
    """`operations` of RandAugment's operations, then Cutout unless it is left out.

    Its words lie behind those of the crop: three of Cutout, drawn even where it is left out, then
    two of each operation. So views of other settings under one seed differ in the setting alone.
    """

    operations: int
    cutout: bool

    def require_valid(self, name: str) -> None:
        """Raise UsageError, naming the augmentation, if a value is invalid."""
        require_whole(self.operations, f"operations of {name}", 0, _MAX_OPERATIONS)
        require_yes_or_no(self.cutout, f"cutout of {name}")

    @property
    def words(self) -> int:
        """How many words a view needs."""
        return cutout.WORDS + rand_augment.WORDS * self.operations

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the drawn numbers: operation_1, magnitude_1, ..., cutout_top, ..."""
        names = [
            f"{part}_{place}"
            for place in range(1, self.operations + 1)
            for part in ("operation", "magnitude")
        ]
        return (*names, *(cutout.COLUMNS if self.cutout else ()))

    def draw(self, random: NDArray[np.uint32], size: int) -> NDArray[np.int64]:
        """Draw the numbers of each view from its words, for views of a size: (B, columns)."""
        drawn = [rand_augment.draw_operations(random[:, cutout.WORDS :])]
        if self.cutout:
            drawn.append(cutout.draw_boxes(random[:, : cutout.WORDS], size))
        return np.concatenate(drawn, axis=1)

    def render(
        self, view: Image.Image, drawn: NDArray[Any], augmentation: ViewKind
    ) -> NDArray[np.uint8]:
        """Distort an RGB view from its drawn numbers: (S, S, 3) uint8.

        Raises:
            PixelError: the numbers can't have been drawn; the message names the augmentation.
        """
        last = rand_augment.WORDS * self.operations
        try:
            distorted = np.array(rand_augment.apply_operations(view, drawn[:last]))
            if self.cutout:
                cutout.paint_box(distorted, drawn[last:])
        except PixelError as error:
            raise PixelError(f"{augmentation.name}: {error}") from None
        return distorted
