"""The images that a view shows, one or two, and which of two has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.views.augmentations.mixed import Mixed
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.pipeline.views.stored import StoredViews
from logitbank.stores.errors import LogitbankError, PixelError

# The views, and the rows of each, that are rendered to find out which of two images changed.
_VIEWS, _ROWS = 4, 4


@dataclasses.dataclass(frozen=True)
class ShownImage:
    """One of the images that a view shows.

    `sample` is which; `whose` is what an error adds to "the image" where it is the partner's;
    `row` and `params` are the view's own sample and numbers, `augmentation` is theirs where the
    image is the partner's.
    """

    sample: int
    whose: str
    row: int
    params: NDArray[Any]
    augmentation: Mixed | None = None

    def replaced(self, others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the samples and numbers of views that show other images in this one's place."""
        params = np.repeat(self.params[None], len(others), axis=0)
        if self.augmentation is None:
            return others, params
        moved = dataclasses.replace(self.augmentation.split(params), partner=others)
        return np.full(len(others), self.row), self.augmentation.joined(moved)


def shown_images(renderer: ViewRenderer, sample: int, params: NDArray[Any]) -> list[ShownImage]:
    """Return what a view shows: its own image and, if it is mixed, its partner's.

    Numbers that can't have been drawn have no partner.
    """
    own = ShownImage(sample, "", sample, params)
    partner = _partner(renderer, params)
    if partner is None or not isinstance(renderer.augmentation, Mixed):
        return [own]
    whose = f" of its partner, sample {partner} ({renderer.dataset.where(partner)}),"
    return [own, ShownImage(partner, whose, sample, params, renderer.augmentation)]


def named_images(renderer: ViewRenderer, sample: int, params: NDArray[Any]) -> str:
    """Return what errors call the images that a view shows."""
    own, partner = renderer.dataset.where(sample), _partner(renderer, params)
    return own if partner is None else f"{own} mixed with {renderer.dataset.where(partner)}"


def suspected(renderer: ViewRenderer, stored: StoredViews, view: int, sample: int) -> str:
    """Return which of a wrong view's images changed, where only pixels show it.

    An image is cleared by another view that shows mostly it and has the cached pixels.

    Returns:
        What an error adds to "the image": nothing for the view's own, else its partner, or both.
    """
    own, *others = shown_images(renderer, sample, stored.params(view, [sample])[0])
    if not others or others[0].sample == sample:
        return own.whose
    partner = others[0]
    own_is_good, partner_is_good = (
        _is_cleared(renderer, stored, each.sample) for each in (own, partner)
    )
    if own_is_good == partner_is_good:
        return f" or that{partner.whose}"
    return partner.whose if own_is_good else own.whose


def _is_cleared(renderer: ViewRenderer, stored: StoredViews, image: int) -> bool:
    return any(
        _has_cached_pixels(renderer, stored, view, row)
        for view in range(min(stored.views, _VIEWS))
        for row in _rows_of(renderer, stored, view, image)
    )


def _rows_of(renderer: ViewRenderer, stored: StoredViews, view: int, image: int) -> Iterator[int]:
    """Yield the first samples whose view shows mostly one image, theirs or their partner's."""
    augmentation = renderer.augmentation
    assert isinstance(augmentation, Mixed), "views of one image have no partner"
    try:
        parts = augmentation.split(stored.params(view, np.arange(stored.samples)))
    except PixelError:
        return
    is_own = augmentation.mix.shares(parts.drawn, augmentation.size) >= 0.5
    shows = np.where(is_own, np.arange(stored.samples), parts.partner)
    yield from np.flatnonzero(shows == image)[:_ROWS].tolist()


def _has_cached_pixels(renderer: ViewRenderer, stored: StoredViews, view: int, sample: int) -> bool:
    try:
        pixels = renderer.render([sample], stored.params(view, [sample]))
    except LogitbankError:
        return False
    return bool(pixel_crc(pixels)[0] == stored.pixel_crc(view, [sample])[0])


def _partner(renderer: ViewRenderer, params: NDArray[Any]) -> int | None:
    if not isinstance(renderer.augmentation, Mixed):
        return None
    try:
        return int(renderer.augmentation.split(params[None]).partner[0])
    except PixelError:
        return None
