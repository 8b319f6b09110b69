"""Cutout: one box of a view painted over (DeVries and Taylor, 2017), as in strong views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import PixelError

COLUMNS = ("cutout_top", "cutout_left", "cutout_height", "cutout_width")
COLOUR = (125, 123, 114)
# Words of a box: side, centre's row, centre's column.
WORDS = 3


def draw_boxes(random: NDArray[np.uint32], size: int) -> NDArray[np.int64]:
    """Draw the box of each view, in whole pixels.

    As in the code that MLKD and SLD are trained with: the side is uniform from 0 to half of the
    view's, the centre uniform in the view; the box is moved in where its top or left would lie
    outside, and cut off where its bottom or right would. Drawn as a Pillow rectangle, whose ends
    are inclusive, it is a pixel larger than its side, rounded down. Computed in whole numbers.

    Args:
        random: (B, 3) words: side, centre's row, centre's column.
        size: the side of a view, below 2**28.

    Returns:
        (B, 4): top, left, height, width; each box within the view and of a pixel or more.
    """
    side, *centre = random.T.astype(np.int64)
    # In units of size / 2**34 a side is twice its word, and a centre four times its own.
    corner = np.maximum(4 * np.stack(centre, axis=1) - side[:, None], 0) * size >> 34
    extent = (side * size >> 33) + 1
    return np.concatenate([corner, np.minimum(extent[:, None], size - corner)], axis=1)


def paint_box(view: NDArray[np.uint8], drawn: NDArray[Any]) -> None:
    """Paint a box over an (S, S, 3) view, in place.

    Args:
        view: what is painted on.
        drawn: (4,) top, left, height, width.

    Raises:
        PixelError: it is not within the view.
    """
    top, left, height, width = drawn.tolist()
    rows, columns = view.shape[:2]
    is_inside = 0 <= top <= rows - height and 0 <= left <= columns - width
    if not (is_inside and height > 0 and width > 0):
        raise PixelError(
            f"cutout's box at top {top}, left {left} of height {height}, width {width} is not in a "
            f"view of {rows} x {columns}"
        )
    view[top : top + height, left : left + width] = COLOUR
