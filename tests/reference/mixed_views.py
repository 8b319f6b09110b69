"""Mixed views by their definitions: one at a time, pixel by pixel, in whole numbers.

What is drawn is computed word by word; what is rendered is computed from a row of `view_params`
alone and from the two images, as docs/store-format.md says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import betainc

from tests.reference import strong_views, views

MIXUP, CUTMIX = 5, 6
COUNTS = {"cifar-weak": 3, "imagenet-weak": 5, "center": 4}


def share_of(word: int, alpha: float) -> int:
    """Beta(alpha, alpha) to the nearest 1/1024: the middles between shares that are passed."""
    middles = (np.arange(1024) + 0.5) / 1024
    return sum(word >= round(2**32 * below) for below in betainc(alpha, alpha, middles))


def base_params(
    base: str, parameters: Mapping[str, Any], seed: int, sample: int, view: int, sides: tuple
) -> list[int]:
    """What the base augmentation draws for one image."""
    if base == "cifar-weak":
        pad, flip = parameters["pad"], parameters["flip"]
        count = (2 * pad + 1) ** 2 * (1 + flip)
        return views.cifar_weak_params(seed, sample, view % count, pad, flip)
    if base == "imagenet-weak":
        return views.imagenet_weak_params(seed, sample, view, *sides, parameters["flip"])
    if base == "cifar-strong":
        return strong_views.cifar_strong_params(parameters, seed, sample, view)
    return strong_views.imagenet_strong_params(parameters, seed, sample, view, sides)


def mixed_params(
    name: str, parameters: Mapping[str, Any], seed: int, sample: int, view: int, sides_of: Any
) -> list[int]:
    """partner, the own view's numbers, the partner's, then share or box; `sides_of` an image."""
    base, _, mix = name.partition("+")
    words = views.words(seed, sample, view, {"mixup": MIXUP, "cutmix": CUTMIX}[mix], 4)
    partner = words[0] * parameters["partners"] >> 32
    share = share_of(words[1], parameters["alpha"])
    drawn = [share] if mix == "mixup" else box_of(share, words[2:], parameters["size"])
    own, other = (
        base_params(base, parameters, seed, each, view, sides_of(each))
        for each in (sample, partner)
    )
    return [partner, *own, *other, *drawn]


def box_of(share: int, words: Sequence[int], size: int) -> list[int]:
    """top, left, height, width: `rand_bbox` of the released CutMix, on our words."""
    wanted = Fraction(1024 - share, 1024) * size * size
    cut = math.isqrt(math.floor(wanted))  # size * sqrt(1 - lambda), rounded down
    corner, sides = [], []
    for word in words:
        centre = word * size >> 32
        first, last = max(0, centre - cut // 2), min(size, centre + cut // 2)
        corner.append(first)
        sides.append(last - first)
    return [*corner, *sides]


def render(
    name: str,
    parameters: Mapping[str, Any],
    image_of: Any,
    sample: int,
    params: Sequence[int],
) -> np.ndarray:
    """Render a mixed view from what a store says; `image_of` gives the image of a sample."""
    base, _, mix = name.partition("+")
    plain = views.render if base in COUNTS else strong_views.render
    partner, *numbers = (int(each) for each in params)
    count = (len(numbers) - {"mixup": 1, "cutmix": 4}[mix]) // 2
    own = plain(base, parameters, image_of(sample), numbers[:count])
    other = plain(base, parameters, image_of(partner), numbers[count : 2 * count])
    view = np.array(own)
    if mix == "mixup":
        (share,) = numbers[2 * count :]
        for place in np.ndindex(view.shape):
            total = share * int(own[place]) + (1024 - share) * int(other[place])
            view[place] = (total + 512) // 1024
        return view
    top, left, height, width = numbers[2 * count :]
    for row in range(top, top + height):
        for column in range(left, left + width):
            view[row, column] = other[row, column]
    return view


def own_share(name: str, size: int, params: Sequence[int]) -> Fraction:
    """λ, the weight of the own image's label."""
    if name.endswith("+mixup"):
        return Fraction(int(params[-1]), 1024)
    return 1 - Fraction(int(params[-2]) * int(params[-1]), size * size)
