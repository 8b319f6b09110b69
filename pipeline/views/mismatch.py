"""Pixels that are not those the teacher saw: finding them, and finding out why."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.views.rendering.mixed_images import named_images, shown_images, suspected
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.pipeline.views.stored import StoredViews
from logitbank.stores.errors import LogitbankError, PixelError

_CHUNK = 4096
# How far to look for images around their place if each of them must be decoded.
_NEIGHBOURS = 8


def check_pixels(
    renderer: ViewRenderer, stored: StoredViews, view: int, *, samples: int | None = None
) -> None:
    """Render one view of a whole dataset from its stored parameters and compare all checksums.

    Args:
        renderer: of the dataset that is to be trained on, under the store's augmentation.
        stored: the store's views.
        view: which view.
        samples: how many of the first samples to check; all by default.

    Raises:
        PixelError: a view has other pixels than the cached one; it names the first and the cause.
        DatasetError: an image can't be read.
        StoreError: the stored parameters or checksums are missing or damaged.
    """
    count = stored.samples if samples is None else samples
    if len(renderer.dataset) < count:
        raise PixelError(
            f"the dataset has {len(renderer.dataset)} samples, but {count} of the cached "
            f"{stored.samples} are to be used: this is not the dataset that was cached"
        )
    for start in range(0, count, _CHUNK):
        part = np.arange(start, min(start + _CHUNK, count))
        wrong = mismatches(renderer, stored, view, part)
        if len(wrong):
            raise PixelError(explain_mismatch(renderer, stored, view, int(wrong[0])))


def mismatches(
    renderer: ViewRenderer, stored: StoredViews, view: int, samples: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return those of the samples whose pixels are not the cached ones."""
    try:
        pixels = renderer.render(samples, stored.params(view, samples))
    except PixelError:
        # Parameters that no image, or not this one, can have: find the sample.
        if len(samples) == 1:
            return samples
        return np.concatenate(
            [mismatches(renderer, stored, view, samples[i : i + 1]) for i in range(len(samples))]
        )
    return samples[pixel_crc(pixels) != stored.pixel_crc(view, samples)]


def explain_mismatch(renderer: ViewRenderer, stored: StoredViews, view: int, sample: int) -> str:
    """Return what differs about a sample with other pixels than the cached ones, and why.

    The causes are distinguished by trying: the parameters drawn again, the ids of the samples, and
    the images of other samples in this one's place.

    Args:
        renderer: of the dataset, under the store's augmentation.
        stored: the store's views.
        view: which view.
        sample: which sample.

    Returns:
        One line for a PixelError.
    """
    expected = int(stored.pixel_crc(view, [sample])[0])
    params = stored.params(view, [sample])[0]
    subject = (
        f"sample {sample} ({named_images(renderer, sample, params)}), view {view}: its pixels are "
        f"not those the teacher saw"
    )
    cause = (
        _changed_parameters(renderer, stored, view, sample, expected)
        or _reordered(renderer, stored, sample, params, expected)
        or _changed_image(renderer, stored, view, sample)
    )
    return f"{subject}: {cause}"


def _changed_parameters(
    renderer: ViewRenderer, stored: StoredViews, view: int, sample: int, expected: int
) -> str | None:
    """Return a cause if the parameters, drawn again, give the cached pixels."""
    found = stored.params(view, [sample])[0]
    pixels, (drawn,) = renderer.draw(stored.seed, view, [sample])
    if np.array_equal(drawn, found) or pixel_crc(pixels)[0] != expected:
        return None
    columns = ", ".join(stored.kind.columns)
    return (
        f"the stored view parameters were changed: ({columns}) = {found.tolist()}, but "
        f"{drawn.tolist()} was drawn and gives the cached pixels; cache again"
    )


def _reordered(
    renderer: ViewRenderer, stored: StoredViews, sample: int, params: NDArray[Any], expected: int
) -> str | None:
    """Return a cause if cached images of a view are in other places, by their ids or pixels."""
    ids = _cheap_ids(renderer.dataset)
    for shown in shown_images(renderer, sample, params):
        cached = stored.sample_ids[shown.sample]
        if ids is not None and ids[shown.sample] == cached:
            continue
        places = [] if ids is None else np.flatnonzero(ids == cached).tolist()
        if not places:
            others = _others(renderer.dataset, shown.sample)
            places = others[_crcs(renderer, *shown.replaced(others)) == expected].tolist()
        if places:
            place = min(places, key=lambda each: abs(each - shown.sample))
            return (
                f"the order of the dataset changed: the cached image{shown.whose} is now sample "
                f"{place}; restore the order it had when it was cached, or cache again"
            )
    return None


def _changed_image(renderer: ViewRenderer, stored: StoredViews, view: int, sample: int) -> str:
    """Return the cause: another image, or the same one rendered differently."""
    ids = _cheap_ids(renderer.dataset)
    made_with = stored.made_with.get("pillow", "of unknown version")
    versions = f"cached with Pillow {made_with}, this is {pillow_version}"
    for shown in shown_images(renderer, sample, stored.params(view, [sample])[0]):
        if ids is not None and ids[shown.sample] != stored.sample_ids[shown.sample]:
            return (
                f"the image{shown.whose} changed: its id is {ids[shown.sample]:016x}, the cached "
                f"one's {stored.sample_ids[shown.sample]:016x}, which no sample has now; restore "
                "it, or cache again"
            )
    suspect = suspected(renderer, stored, view, sample)
    if ids is None:
        return (
            f"the image{suspect}, its place or the library that decodes it changed ({versions}), "
            "or this is another dataset; restore it, or cache again"
        )
    return (
        f"the image{suspect} has the cached one's id and the view its parameters, so the image's "
        f"content or the library that decodes it changed ({versions}); restore either, or cache "
        "again"
    )


def _cheap_ids(dataset: ImageDataset) -> NDArray[np.uint64] | None:
    """Return the ids, unless that would take reading every image of a user's own dataset."""
    if isinstance(dataset, MapStyleDataset) and not dataset.has_cheap_ids:
        return None
    return dataset.sample_ids


def _others(dataset: ImageDataset, sample: int) -> NDArray[np.int64]:
    """Return the samples that may be in another one's place: all in memory, else neighbours."""
    reach = len(dataset) if dataset.images is not None else _NEIGHBOURS
    near = np.arange(max(0, sample - reach), min(len(dataset), sample + reach + 1))
    return near[near != sample]


def _crcs(
    renderer: ViewRenderer, samples: NDArray[np.int64], params: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the (B,) checksums of views from their parameters, -1 where one can't be rendered."""
    found = np.full(len(samples), -1)
    for start in range(0, len(samples), _CHUNK):
        part = slice(start, start + _CHUNK)
        try:
            found[part] = pixel_crc(renderer.render(samples[part], params[part]))
        except LogitbankError:
            if len(samples) > 1:
                alone = zip(np.split(samples[part], len(samples[part])), params[part], strict=True)
                found[part] = [_crcs(renderer, one, row[None])[0] for one, row in alone]
    return found
