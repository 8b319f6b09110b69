"""The interface of augmentations: drawing views, and rendering them from what was drawn."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from logitbank.stores.errors import DatasetError, PixelError, UsageError, unknown_name

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
MAX_SIZE = 4096
MAX_PAD = 127


class ViewKind(Protocol):
    """The identity of an augmentation.

    `columns` names the P numbers that are drawn for a view, `dtype` is what they are stored as;
    they alone determine how a view is rendered. `size` is the side of a view in pixels.
    `parameters` are complete and JSON-able: they and `name` are the augmentation's identity.
    `count` is how many different views an image has, None if unlimited.
    """

    @property
    def name(self) -> str:
        """The name in specs and manifests."""

    @property
    def size(self) -> int:
        """The side of a view."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the drawn numbers."""

    @property
    def dtype(self) -> Literal["int16", "int32"]:
        """The dtype of the drawn numbers."""

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""

    @property
    def count(self) -> int | None:
        """The number of different views of an image, None if unlimited."""


class ImageAugmentation(ViewKind, Protocol):
    """A way of drawing views of one image each; those of two are in `mixed.py`."""

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[Any]:
        """Draw the parameters of one view of each sample.

        Args:
            seed: 0 to 2**64 - 1.
            samples: (B,) indices in the whole split.
            view: the view's number, from 0.
            sizes: (B, 2) heights and widths of the images.

        Returns:
            (B, P) of `dtype`.
        """

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Render a view, (size, size, 3) uint8, of an (H, W, 3) image from its (P,) parameters.

        Raises:
            PixelError: the parameters can't belong to this image.
        """


def check_views(augmentation: ViewKind, views: int) -> None:
    """Check that an image has this many different views.

    Raises:
        UsageError: fewer than one, or more than there are.
    """
    if views < 1:
        raise UsageError(f"{views} views: there must be 1 or more")
    if augmentation.count is not None and views > augmentation.count:
        raise UsageError(
            f"{views} views are more than {augmentation.name} with "
            f"{spell_parameters(augmentation)} has: {augmentation.count} (--views all)"
        )


def parse_views(augmentation: ViewKind, text: str) -> int:
    """Parse a number of views, or `all`.

    Raises:
        UsageError: it is not a number, more than there are, or `all` of an unlimited number.
    """
    if text == "all":
        if augmentation.count is None:
            raise UsageError(f"{augmentation.name} has no end of views: give a number of them")
        return augmentation.count
    try:
        views = int(text)
    except ValueError:
        raise UsageError(f"views {text!r}: expected a number or 'all'") from None
    check_views(augmentation, views)
    return views


def spell_parameters(augmentation: ViewKind) -> str:
    """Format the parameters as in a spec, such as `size=32,pad=4,flip=yes`."""
    words = {True: "yes", False: "no"}
    return ",".join(
        f"{name}={words[value] if isinstance(value, bool) else value}"
        for name, value in augmentation.parameters.items()
    )


def require_whole(value: Any, name: str, low: int, high: int) -> None:
    """Raise UsageError unless the value is a whole number from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}: expected a whole number from {low} to {high}")


def require_yes_or_no(value: Any, name: str) -> None:
    """Raise UsageError unless the value is a truth value."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}: expected yes or no")


def require_interpolation(value: Any, name: str) -> None:
    """Raise UsageError unless the value is the name of one of Pillow's filters."""
    if value not in INTERPOLATIONS:
        raise unknown_name(name, str(value), INTERPOLATIONS)


def resized(image: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> Image.Image:
    """Resize (H, W, 3) uint8 to (height, width) with one of Pillow's filters."""
    height, width = size
    filter_ = Image.Resampling[interpolation.upper()]
    return Image.fromarray(image).resize((width, height), filter_)


def require_sides(sizes: ArrayLike, augmentation: ViewKind) -> None:
    """Raise DatasetError unless (B, 2) sizes are square and the augmentation's own."""
    sides, size = np.asarray(sizes), augmentation.size
    wrong = sides[(sides != size).any(axis=1)]
    if len(wrong):
        raise DatasetError(
            f"{augmentation.name} of size {size} can't take an image of {wrong[0][0]} x "
            f"{wrong[0][1]}: the images must be square and of that size ({augmentation.name}:"
            "size=...)"
        )


def require_box(
    box: tuple[int, int, int, int], sides: tuple[int, int], augmentation: ViewKind
) -> None:
    """Check that a box (top, left, height, width) lies in an image of these sides.

    Raises:
        PixelError: it does not, so the parameters belong to another image.
    """
    top, left, height, width = box
    inside = 0 <= top <= sides[0] - height and 0 <= left <= sides[1] - width
    if not (inside and height > 0 and width > 0):
        raise PixelError(
            f"{augmentation.name}: the box at top {top}, left {left} of height {height}, "
            f"width {width} is not in an image of height {sides[0]}, width {sides[1]}"
        )
